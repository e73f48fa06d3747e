"""One process writes the copy of the registry, another reads it, and the writer dies in the middle."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from notifier.registry.cache import Registry
from notifier.registry.replica import FILE
from tests.integration.toys import replica_writer
from tests.integration.toys.replica_writer import MERCHANTS

DEATHS = 10
CHANGES = 60


def last_change(merchant: int, version: int) -> int:
    """The newest version up to this one that changed the merchant; not positive if there was none."""
    return version - (version - merchant) % MERCHANTS


def look(registry: Registry, wanted: int) -> int:
    """Everything that a reader sees is at least as new as what it was told; returns how far that is."""
    registry.refresh(wanted)
    assert registry.stand is not None
    version = registry.stand.version
    assert version >= wanted
    for merchant in range(MERCHANTS):
        found = registry.get(f"shop-{merchant}")
        changed = last_change(merchant, version)
        assert (found is not None) or changed <= 0
        if found is not None:
            assert found.version >= changed
            assert found.url == f"https://shop.example/{found.version}"
    return version


@pytest.mark.parametrize("memory", [3, 100], ids=["memory for some", "memory for all"])
def test_a_reader_sees_whole_changes_in_order_while_the_writer_writes_and_is_killed(
    tmp_path: Path, memory: int
) -> None:
    registry = Registry(tmp_path, most=memory)
    seen = 0
    for _ in range(DEATHS):
        with subprocess.Popen(
            [sys.executable, replica_writer.__file__, str(tmp_path / FILE)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(CHANGES):
                seen = look(registry, int(writer.stdout.readline()))
            writer.kill()
            committed = [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        seen = look(registry, max([seen, *committed]))
    assert seen >= DEATHS * CHANGES
    registry.close()
