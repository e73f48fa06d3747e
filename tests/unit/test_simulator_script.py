"""Scripts of simulated merchants, as text and as words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier.errors import InvalidInput
from notifier.simulator import Script, Word


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("ok", Word("ok", 200)),
        ("ok-json", Word("ok-json", 200)),
        ("500", Word("500", 500)),
        ("timeout", Word("timeout", None)),
        ("reset", Word("reset", None)),
        ("wrong-body", Word("wrong-body", 200)),
        ("redirect", Word("redirect", 302)),
        ("huge", Word("huge", 200)),
        ("slow", Word("slow", 200, 2.0)),
        ("slow:0.25", Word("slow", 200, 0.25)),
        ("429", Word("429", 429, 1.0)),
        ("429:7", Word("429", 429, 7.0)),
        ("503:60", Word("503", 503, 60.0)),
        ("100", Word("100", 100)),
        ("599", Word("599", 599)),
    ],
)
def test_a_word_says_status_and_seconds(text: str, word: Word) -> None:
    assert Word.parse(text) == word


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a script names at least one answer"),
        (" , ", "a script names at least one answer"),
        ("okay", "'okay' is not an answer: possible are ok, "),
        ("ok,99", "'99' is not an answer"),
        ("600", "'600' is not an answer"),
        ("ok:3", "'ok:3': only slow, 429, 503 take seconds"),
        ("500:3", "'500:3': only slow, 429, 503 take seconds"),
        ("slow:", "'slow:': write seconds after the colon"),
        ("slow:-1", "'slow:-1': write seconds after the colon"),
        ("slow:nan", "'slow:nan': write seconds after the colon"),
        ("429:1.5", "'429:1.5': write whole seconds after the colon"),
    ],
)
def test_a_script_that_cannot_be_read_names_the_word_and_what_is_possible(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=r"^" + said.replace(".", r"\.")):
        Script.parse(text)


def test_the_last_word_repeats() -> None:
    script = Script.parse("500, timeout ok")
    assert [script.word(turn).name for turn in range(5)] == ["500", "timeout", "ok", "ok", "ok"]


def test_only_429_and_503_carry_retry_after() -> None:
    assert [Word.parse(text).retry_after for text in ("429:7", "503", "500", "slow:2", "ok")] == [
        7,
        1,
        None,
        None,
        None,
    ]


words = st.sampled_from([*Word.NAMED, "429:7", "503:9", "slow:0.5", "404", "599"])


@given(st.lists(words, min_size=1))
def test_a_script_reads_back_what_it_writes(parts: list[str]) -> None:
    script = Script.parse(",".join(parts))
    assert Script.parse(str(script)) == script
