"""What a private node is configured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifier.broker.node_files import NodeFiles, Ports


@pytest.mark.parametrize("large", [True, False])
def test_the_log_of_quorum_queues_is_small_unless_it_is_to_be_as_rabbitmq_makes_it(tmp_path: Path, large: bool) -> None:
    files = NodeFiles(tmp_path / "node", Ports(1, 2, 3), (), (), large)
    files.write()
    lines = (files.directory / "rabbitmq.conf").read_text().splitlines()
    assert ("raft.wal_max_size_bytes = 33554432" in lines) is not large
    assert "disk_free_limit.absolute = 50MB" in lines
