"""One merchant never harms another: the figures with hanging merchants beside those without. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.figures import Spread, percentile
from benchmarks.host import Stood

#: Issue 5. The p99 lateness of healthy merchants' first attempts in milliseconds: the most without hanging merchants,
#: and with them so many times as much, or so much more; whichever of the two allows more.
BASELINE_MS, TIMES, MORE_MS = 50.0, 1.5, 5.0
#: Whose promise it is; the others stand beside it.
OURS = "notifier"


@dataclass(frozen=True, slots=True)
class Late:
    """Milliseconds of lateness. bound: some are only known to be at least that late, since they never came."""

    p50: float
    p99: float
    most: float
    bound: bool = False

    @classmethod
    def of(cls, came: Sequence[float], missing: Sequence[float] = ()) -> Late:
        """came: of what came. missing: how late what did not come was by the end of waiting."""
        values = [*came, *missing]
        return cls(percentile(values, 0.5), percentile(values, 0.99), max(values), bool(missing))


@dataclass(frozen=True, slots=True)
class Apart:
    """What became of the hanging merchants' notifications.

    sent: how many. attempted, held: how many of them at least once; both can be. attempts: requests that were made, all
    tiers. reasons: how often one was held for what. opened: merchants whose breaker opened.
    """

    sent: int
    attempted: int
    held: int
    attempts: int
    reasons: Mapping[str, int]
    opened: int


@dataclass(frozen=True, slots=True)
class Healthy:
    """One run of one side. sent, arrived: notifications of the healthy merchants, and those of them that came in time.

    started: from the due moment to the start of the callback, as the worker itself measures it; received: to the
    arrival, by the receiver. published_per_s: notifications of all merchants. cpu_ms: of all processes that deliver,
    until the last healthy one came, by the notifications of all merchants. apart: of ours, when some hang. stood,
    piece_us: of ours, where the machine can be watched: its standstills, and how long it took for a piece of work.
    """

    sent: int
    arrived: int
    started: Late
    received: Late
    published_per_s: float
    cpu_ms: float
    others_share: float
    apart: Apart | None = None
    stood: Stood | None = None
    piece_us: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs one after the other. alone: nobody hangs. beside: every tenth merchant does."""

    alone: Healthy
    beside: Healthy

    @property
    def ratio(self) -> float:
        """How many times as late; infinite beside nothing."""
        return self.beside.started.p99 / self.alone.started.p99 if self.alone.started.p99 else float("inf")

    @property
    def met(self) -> bool:
        """Whether the promise was kept."""
        without = self.alone.started.p99
        return without <= BASELINE_MS and self.beside.started.p99 <= max(TIMES * without, without + MORE_MS)


@dataclass(frozen=True, slots=True)
class Disturbed:
    """A run that is in no pair; it was done again. pair: its number. than: microseconds of the other run's piece of
    work, from which that of this run was too different; None: the machine stood still for long.
    """

    pair: int
    hang: bool
    run: Healthy
    than: float | None = None

    @property
    def sentence(self) -> str:
        """For people."""
        return (
            f"pair {self.pair}, {'one in ten hangs' if self.hang else 'nobody hangs'}: p99 {_shown(self.run.started)} "
            f"ms in a run in which the machine {self._why}: done again"
        )

    @property
    def _why(self) -> str:
        if self.than is not None:
            return f"took {self.run.piece_us:.1f} µs for what took {self.than:.1f} µs in the other run of the pair"
        stood = self.run.stood
        assert stood is not None
        return (
            f"stood still for {stood.ms:.0f} ms ({stood.through_it} of its latest {stood.latest:,} were late at a "
            "standstill)"
        )


@dataclass(frozen=True, slots=True)
class IsolationFigures:
    """pairs: by side, in turn. disturbed: runs of ours that were done again."""

    pairs: Mapping[str, Sequence[Pair]]
    disturbed: Sequence[Disturbed] = ()

    @property
    def met(self) -> bool:
        """Whether the promise was kept in every pair of ours."""
        return all(pair.met for pair in self.pairs[OURS])

    @property
    def others_share(self) -> float:
        """The largest share of the cores that others used during any run."""
        return max(run.others_share for pairs in self.pairs.values() for each in pairs for run in _runs(each))


def rows(figures: IsolationFigures) -> list[list[str]]:
    """The cells of the table, its head first."""
    head = ["late ms of the healthy, p99", "nobody hangs", "one in ten hangs", "ratio", ""]
    return [head, *(row for side, pairs in figures.pairs.items() for row in _rows(side, pairs))]


def summary(figures: IsolationFigures) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "pairs": {
            side: [{**asdict(each), "ratio": each.ratio, "met": each.met} for each in pairs]
            for side, pairs in figures.pairs.items()
        },
        "disturbed": [asdict(each) for each in figures.disturbed],
        "bounds": {"baseline_ms": BASELINE_MS, "times": TIMES, "more_ms": MORE_MS},
        "met": figures.met,
        "others_share": figures.others_share,
    }


def _rows(side: str, pairs: Sequence[Pair]) -> list[list[str]]:
    told = [_row(side, number, pair) for number, pair in enumerate(pairs, 1)]
    if len(pairs) > 1:
        ratios = Spread.of([pair.ratio for pair in pairs])
        told.append([f"{side}, median (min-max)", *_spreads(pairs, "started", "p99"), ratios.shown(".2f"), ""])
    told.append(["  p50", *_spreads(pairs, "started", "p50"), "", ""])
    told.append(["  max", *_spreads(pairs, "started", "most"), "", ""])
    told.append(["  p99 at the receiver", *_spreads(pairs, "received", "p99"), "", ""])
    told.append(
        ["  healthy delivered, of", *(_delivered([_runs(pair)[way] for pair in pairs]) for way in (0, 1)), "", ""]
    )
    told.append(["  published/s", *(_median(pairs, way, "published_per_s", ",.0f") for way in (0, 1)), "", ""])
    told.append(["  CPU ms per notification", *(_median(pairs, way, "cpu_ms", ".2f") for way in (0, 1)), "", ""])
    told.extend([*_standstills(pairs), *_pieces(pairs)])
    apart = [pair.beside.apart for pair in pairs if pair.beside.apart is not None]
    return [*told, *_apart(apart)] if apart else told


def _row(side: str, number: int, pair: Pair) -> list[str]:
    verdict = "" if side != OURS else "met" if pair.met else "missed"
    ratio = f"{pair.ratio:,.2f}"
    return [f"{side}, pair {number}", _shown(pair.alone.started), _shown(pair.beside.started), ratio, verdict]


def _standstills(pairs: Sequence[Pair]) -> list[list[str]]:
    """Of each run, in turn."""
    alone, beside = ([stood for pair in pairs if (stood := _runs(pair)[way].stood) is not None] for way in (0, 1))
    if not alone or not beside:
        return []
    return [
        _by_run("  standstills of the machine, ms", [[each.ms for each in way] for way in (alone, beside)]),
        _by_run(
            f"  … of the latest {beside[0].latest:,}, late at one",
            [[each.through_it for each in way] for way in (alone, beside)],
        ),
    ]


def _pieces(pairs: Sequence[Pair]) -> list[list[str]]:
    """Of each run, in turn."""
    alone, beside = ([took for pair in pairs if (took := _runs(pair)[way].piece_us) is not None] for way in (0, 1))
    return [_by_run("  a piece of work, µs", [alone, beside])] if alone and beside else []


def _by_run(name: str, ways: Sequence[Sequence[float]]) -> list[str]:
    return [name, *(" ".join(f"{each:.0f}" for each in way) for way in ways), "", ""]


def _apart(apart: Sequence[Apart]) -> list[list[str]]:
    """All pairs together."""
    sent, attempted, held = (sum(getattr(each, name) for each in apart) for name in ("sent", "attempted", "held"))
    reasons = sorted({reason for each in apart for reason in each.reasons})
    return [
        ["  hanging: notifications", "", f"{sent:,}", "", ""],
        ["  … attempted at least once", "", f"{attempted:,}", "", ""],
        ["  … held at least once", "", f"{held:,}", "", ""],
        *(
            [f"  … times held, {why}", "", f"{sum(each.reasons.get(why, 0) for each in apart):,}", "", ""]
            for why in reasons
        ),
        ["  … requests to them", "", f"{sum(each.attempts for each in apart):,}", "", ""],
        ["  … breakers that opened, a run", "", " ".join(str(each.opened) for each in apart), "", ""],
    ]


def _spreads(pairs: Sequence[Pair], where: str, name: str) -> list[str]:
    """Without and with, each over all pairs."""
    cells = []
    for way in (0, 1):
        lates = [getattr(_runs(pair)[way], where) for pair in pairs]
        spread = Spread.of([getattr(late, name) for late in lates])
        shown = (
            _ms(spread.median) if len(lates) == 1 else f"{_ms(spread.median)} ({_ms(spread.least)}-{_ms(spread.most)})"
        )
        cells.append("≥ " * any(late.bound for late in lates) + shown)
    return cells


def _delivered(runs: Sequence[Healthy]) -> str:
    return f"{sum(run.arrived for run in runs):,} of {sum(run.sent for run in runs):,}"


def _median(pairs: Sequence[Pair], way: int, name: str, form: str) -> str:
    return format(Spread.of([getattr(_runs(pair)[way], name) for pair in pairs]).median, form)


def _shown(late: Late) -> str:
    return ("≥ " if late.bound else "") + _ms(late.p99)


def _ms(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


def _runs(pair: Pair) -> tuple[Healthy, Healthy]:
    return pair.alone, pair.beside
