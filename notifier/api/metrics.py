"""/metrics for Prometheus, from what the processes say of themselves and what the queues hold. Counts of a tier begin
again with its process, as counters may.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from notifier.api.live import live
from notifier.api.parts import Given, Parts

router = APIRouter(tags=["health"])

OUTCOMES = ("completed", "failed", "held", "poisoned")
STATES = ("down", "starting", "ready", "paused", "draining", "stopped", "backoff", "degraded")


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus' text format", "content": {"text/plain": {}}}},
)
async def metrics(parts: Given) -> Response:
    """What could not be asked is left out, so that an alert on absence works."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Reading(parts, await live(parts)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class Reading(Collector):
    """One moment's figures. shown: see `live`."""

    def __init__(self, parts: Parts, shown: Mapping[str, Any]) -> None:
        self._parts = parts
        self._shown = shown

    def collect(self) -> Iterable[Metric]:
        """Called by prometheus_client."""
        yield from _of_tiers(self._shown["tiers"], self._shown["slots"])
        yield from _of_processes(self._shown["slots"])
        yield from _of_merchants(self._shown["held_back"])
        yield from self._of_service()

    def _of_service(self) -> Iterator[Metric]:
        for name, said, value in (
            ("facts_waiting", "messages of facts on their way to the ledger", self._shown["facts_waiting"]),
            ("poison_messages", "messages on the poison queue", self._shown["poison"]),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"notifier_{name}", said, value)
        yield GaugeMetricFamily(
            "notifier_broker_up", "1 if the API is connected", float(self._parts.publisher.connected)
        )
        up = float(self._shown["totals"] is not None)
        yield GaugeMetricFamily("notifier_database_up", "1 if the ledger's database answers", up)
        activity = self._parts.activity
        yield CounterMetricFamily("notifier_api_requests", "requests", activity.requests)
        yield CounterMetricFamily("notifier_api_accepted", "notifications accepted by the API", activity.accepted)
        yield CounterMetricFamily("notifier_api_refused", "notifications refused by the API", activity.refused)
        yield GaugeMetricFamily("notifier_api_streams", "listeners of the stream of attempts", activity.streams)
        totals = self._shown["totals"]
        if totals is not None:
            by_status = GaugeMetricFamily(
                "notifier_ledger_notifications",
                "notifications in the ledger",
                labels=["status"],
            )
            for status, count in totals.items():
                by_status.add_metric([status], count)
            yield by_status


def _of_tiers(tiers: Sequence[Mapping[str, Any]], slots: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    queues = GaugeMetricFamily("notifier_queue_messages", "messages in a tier's queues", labels=["tier", "queue"])
    head = GaugeMetricFamily("notifier_head_late_seconds", "lateness of a tier's first unfinished", labels=["tier"])
    paused = GaugeMetricFamily("notifier_tier_paused", "1 if no process of the tier takes anything", labels=["tier"])
    for tier in tiers:
        for queue in ("waiting", "due"):
            if tier[queue] is not None:
                queues.add_metric([tier["tier"], queue], tier[queue])
        if tier["head_late_ms"] is not None:
            head.add_metric([tier["tier"]], tier["head_late_ms"] / 1000)
        paused.add_metric([tier["tier"]], float(tier["paused"]))
    yield from (queues, head, paused)
    attempts = CounterMetricFamily("notifier_attempts", "what came of notifications", labels=["slot", "outcome"])
    in_flight = GaugeMetricFamily("notifier_in_flight", "notifications in a process's hands", labels=["slot"])
    late = HistogramMetricFamily(
        "notifier_lateness_seconds", "start of an attempt after its due moment", labels=["slot"]
    )
    for slot in slots:
        figures = slot["statistics"]
        if "tier" not in slot["groups"]:
            continue
        for outcome in OUTCOMES:
            if outcome in figures:
                attempts.add_metric([slot["slot"], outcome], figures[outcome])
        if "in_flight" in figures:
            in_flight.add_metric([slot["slot"]], figures["in_flight"])
        if "lateness" in figures:
            late.add_metric([slot["slot"]], *_histogram(figures["lateness"]))
    yield from (attempts, in_flight, late)


def _of_processes(slots: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    state = GaugeMetricFamily("notifier_process_state", "1 for the state that it is in", labels=["slot", "state"])
    restarts = CounterMetricFamily("notifier_process_restarts", "restarts of a process", labels=["slot"])
    for slot in slots:
        for name in STATES:
            state.add_metric([slot["slot"], name], float(slot["state"] == name))
        restarts.add_metric([slot["slot"]], slot["restarts"])
    yield from (state, restarts)


def _of_merchants(held_back: Mapping[str, Any]) -> Iterator[Metric]:
    """Counts: a label per merchant would make as many series as there are merchants."""
    breakers = GaugeMetricFamily("notifier_breakers", "merchants whose breaker is not closed", labels=["state"])
    for state in ("open", "half-open"):
        breakers.add_metric([state], held_back[state])
    overflows = GaugeMetricFamily("notifier_overflows", "slow merchants that have no room in a tier", labels=["tier"])
    for tier, count in sorted(held_back["overflows"].items()):
        overflows.add_metric([tier], count)
    yield from (breakers, overflows)


def _histogram(lateness: Mapping[str, Any]) -> tuple[list[tuple[str, float]], float]:
    """Cumulative buckets in seconds, and the sum."""
    buckets, below = list[tuple[str, float]](), 0
    for edge_ms, count in lateness["buckets"]:
        below += count
        buckets.append(("+Inf" if edge_ms is None else f"{edge_ms / 1000:g}", float(below)))
    return buckets, lateness["sum_ms"] / 1000
