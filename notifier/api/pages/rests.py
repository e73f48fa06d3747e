"""Merchants that are held back for now, in plain words: given a rest, or without room. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from notifier.api.pages.judgement import Judgement, Way, place_of
from notifier.api.pages.words import many, span, to_the_second
from notifier.domain.rest import Rest


def no_room(name: str, quote: str = "") -> Judgement:
    """A slow merchant, that has more due than it may have under way."""
    return Judgement(
        "wait",
        f"{name} is slow, and has as many calls under way as it may.",
        f"They are kept here so that nobody has to wait behind {name}, and go out by themselves, the oldest first, "
        f"as fast as it answers. If it can take more calls at once, allow it: notifier merchants set {name} "
        "--concurrency 50",
        quote=quote,
        again=False,
    )


def resting(rest: Rest, failure: str = "", ways: Sequence[Way] = ()) -> Judgement:
    """A merchant whose breaker is not closed: since when and why, what happens next, and the way to end it by hand.

    failure: what its last attempt came to, as a sentence. ways: others that may help.
    """
    name = rest.merchant
    failed = f"{rest.failed} of {many(rest.of, 'attempt')} failed"
    if rest.probing:
        sentence = f"{name} is being tried with a single attempt, after a rest: {failed}."
        next_ = f"If {name} acknowledges it,"
    else:
        sentence = f"{name} is given a rest until {to_the_second(rest.until)}: {failed}."
        next_ = f"When that is over, a single attempt is made, as soon as one is due. If {name} acknowledges it,"
    explanation = (
        f"{failure} {next_} what is kept here goes out by itself, the oldest first; if not, the next rest is longer "
        f"than this one of {span(rest.pause)}. It began at {to_the_second(rest.since)}. If you know that its server is "
        "well again, it can be called at once."
    )
    again = Way(f"Call {name} now", f"{place_of(name)}/close")
    return Judgement("bad", sentence, explanation.strip(), [again, *ways], again=False)
