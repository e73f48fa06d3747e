"""What is wrong with a service, from its status: the first thing an operator wants to read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifier.cli import ctl_spans
from notifier.cli.ctl_answers import visible

#: Seconds without a heartbeat, which comes every second, that are worth a line.
SILENT = 5.0
#: Lateness of one attempt in a hundred that is worth a line, milliseconds.
LATE = 1000.0
#: Seconds that a change of state may take before it is worth a line.
SLOW = 5.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing. bad: nothing is delivered there, or an order is not obeyed; else it is only worth knowing."""

    bad: bool
    sentence: str


def of_service(status: Mapping[str, Any], now: datetime) -> list[Trouble]:
    """The bad ones first, each kind in the order of the slots."""
    found = [
        *_of_master(status),
        *_of_registry(status),
        *(trouble for slot in status["slots"] for trouble in _of_slot(slot, now)),
    ]
    return sorted(found, key=lambda trouble: not trouble.bad)


def _of_master(status: Mapping[str, Any]) -> Iterator[Trouble]:
    if status["state"] != "running":
        yield Trouble(False, f"the service is {status['state']}")
    if not status["saved"]:
        yield Trouble(True, "what operators set is not written to disk and would be lost with the master: see its log")


def _of_registry(status: Mapping[str, Any]) -> Iterator[Trouble]:
    """One line for all processes that know the merchants only as they were."""
    told = [slot["statistics"].get("registry") for slot in status["slots"]]
    stale = sorted(str(of["stale_since"]) for of in told if isinstance(of, Mapping) and of.get("stale_since"))
    if stale:
        yield Trouble(
            False,
            f"{len(stale)} of {len(told)} processes know the merchants as they were at {visible(stale[0])}: nobody "
            "keeps them fresh, since the agent does not run or its database does not answer",
        )


def _of_slot(slot: Mapping[str, Any], now: datetime) -> Iterator[Trouble]:
    name = slot["slot"]
    yield from (Trouble(bad, f"{name} {sentence}") for bad, sentence in _of_life(slot, now))
    for key, sentence in slot["errors"].items():
        yield Trouble(True, f"{name} cannot apply {visible(key)}: {visible(sentence)}")
    if not slot["errors"] and slot["applied"] is not None and slot["applied"] < slot["wanted"]:
        yield Trouble(False, f"{name} has version {slot['applied']} of {slot['wanted']} of what operators set")
    if slot["waiting"]:
        yield Trouble(False, f"{name}: {slot['waiting']} messages wait until it is ready")
    yield from (Trouble(bad, f"{name} {sentence}") for bad, sentence in _of_work(slot["statistics"]))


def _of_life(slot: Mapping[str, Any], now: datetime) -> Iterator[tuple[bool, str]]:
    state, since = slot["state"], _since(slot, now)
    last = f"; its last end: {visible(slot['reason'])}" if slot["reason"] else ""
    if slot["degraded"] or state == "degraded":
        yield True, f"ends again and again, {state} for {ctl_spans.spelled(since)}{last}"
    elif state == "backoff":
        yield True, f"waits to be started again{last}"
    elif state == "stopped":
        yield True, f"is stopped, until: notifier ctl restart {slot['slot']}"
    elif state == "down":
        yield True, f"has no process{last}"
    elif state in ("starting", "draining") and since >= SLOW:
        yield True, f"is {state} for {ctl_spans.spelled(since)}{last if state == 'starting' else ''}"
    if slot["note"]:
        yield True, visible(slot["note"])
    if slot["silent"] is not None and slot["silent"] >= SILENT:
        yield True, f"gives no sign of life for {ctl_spans.spelled(slot['silent'])}"


def _of_work(of: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    if of.get("link") == "down":
        yield True, "has no connection to RabbitMQ"
    if why := of.get("database_why"):  # deliveries go on; what happened waits in RabbitMQ, and changes are refused
        yield True, f"writes nothing down: {visible(str(why))}"
    late = of.get("late_p99_ms")
    if isinstance(late, int | float) and late >= LATE:
        yield False, f"is late: one attempt in a hundred by {ctl_spans.milliseconds(late)} or more"
    if of.get("careful"):
        yield False, "goes carefully, since the process before it died: see docs/operations.md"


def _since(slot: Mapping[str, Any], now: datetime) -> float:
    return 0.0 if slot["since"] is None else (now - ctl_spans.read(slot["since"])).total_seconds()
