"""The figures of the registry's benchmark, and what it fills a ledger with."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import registry, registry_figures, table
from benchmarks.load import Item
from benchmarks.registry import Registered
from benchmarks.registry_figures import RegistryComparison, RegistryFigures
from notifier.ledger import merchants
from notifier.ledger.database import Database
from notifier.registry import form

FEW = RegistryFigures([2.0], [1.0, 1.5, 2.0], [0.8], [0.5], [4.0, 6.0], [36.0], [70.0])
MANY = RegistryFigures([3.0], [1.5], [0.8], [0.5], [5.0, 5.0], [37.0], [77.0])
COMPARISON = RegistryComparison(10, 100_000, FEW, MANY, 0.02)


def test_each_figure_stands_beside_itself_with_many_merchants_and_its_growth() -> None:
    lines = table.aligned(registry_figures.rows(COMPARISON)).splitlines()
    assert lines[0].split("  ")[-1] == "grown by"
    assert [line.split()[-1] for line in lines[1:]] == ["+50%", "+0%", "+0%", "+0%", "+0%", "+3%", "+10%"]
    assert "1.50 (1.00-2.00)" in lines[2]
    assert ("10 merchants" in lines[0], "100,000 merchants" in lines[0]) == (True, True)


def test_the_summary_holds_every_value_and_is_json() -> None:
    summary = json.loads(json.dumps(registry_figures.summary(COMPARISON)))
    assert summary["values"]["with_few"]["change_ms"] == [4.0, 6.0]
    assert summary["growth"]["first_start_s"] == 0.5


def test_messages_go_to_merchant_after_merchant_and_bring_no_url() -> None:
    side = Registered("amqp://localhost/", "bench", merchants=10)
    headers = [side.headers(Item(f"x-n-{n:06}", "shop", "http://x/", b"{}"), 5000) for n in (3, 13, 14)]
    assert [each["merchant"] for each in headers] == ["merchant-3", "merchant-3", "merchant-4"]
    assert all("url" not in each for each in headers)


async def test_a_filled_ledger_is_one_that_the_registry_reads(tmp_path: Path) -> None:
    await registry.fill(tmp_path / "ledger.db", 3, "http://127.0.0.1:1")
    database = await Database.open(f"sqlite:///{tmp_path}/ledger.db")
    try:
        changes = await merchants.changed_since(database, 0)
        read = [form.read(row.id, row.body or "", row.version) for row in changes.merchants]
        assert changes.reached == 3
    finally:
        await database.close()
    assert [each.url for each in read] == [f"http://127.0.0.1:1/merchant-{number}" for number in range(3)]
    assert len({each.secret for each in read}) == 3


def test_the_service_runs_with_its_agent() -> None:
    command = Registered("amqp://localhost/", "bench").work()
    assert command[-2:] == ["run", "--no-api"]
