"""From what a peer's tasks and the receiver wrote down to the same figures as ours. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.errors import BenchmarkFailed
from benchmarks.figures import Arrival
from benchmarks.isolation_figures import Healthy, Late


def healthy(
    ids: Sequence[str],
    due: Mapping[str, float],
    started: Iterable[Arrival],
    arrived: Iterable[Arrival],
    ended: float,
    cpu_s: float,
    others_share: float,
) -> Healthy:
    """ids: the healthy merchants' notifications. due: of all. ended: Unix seconds when waiting for them ended.
    cpu_s: of the workers until then.

    What did not come by then counts as late as it was by then: a queue that leaves the worst ones out would look
    better than one that delivers them late. Of what came twice the first counts.
    """
    unpublished = [each for each in ids if each not in due]
    if unpublished:
        raise BenchmarkFailed(f"{len(unpublished):,} notifications were not published (such as {unpublished[0]})")
    came = _first(arrived)
    return Healthy(
        sent=len(ids),
        arrived=sum(each in came for each in ids),
        started=_late(ids, due, _first(started), ended),
        received=_late(ids, due, came, ended),
        published_per_s=(len(due) - 1) / (max(due.values()) - min(due.values())),
        cpu_ms=cpu_s * 1000 / len(due),
        others_share=others_share,
    )


def _late(ids: Sequence[str], due: Mapping[str, float], came: Mapping[str, float], ended: float) -> Late:
    return Late.of(
        [max(0.0, came[each] - due[each]) * 1000 for each in ids if each in came],
        [max(0.0, ended - due[each]) * 1000 for each in ids if each not in came],
    )


def _first(arrivals: Iterable[Arrival]) -> dict[str, float]:
    """The moment that each came first."""
    first: dict[str, float] = {}
    for arrival in arrivals:
        first[arrival.id] = min(arrival.at, first.get(arrival.id, arrival.at))
    return first
