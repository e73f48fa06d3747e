"""What a process reads at any moment is never half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.files import put


def test_a_file_appears_with_its_text_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "told", "20")
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"told": "20"}


def test_who_has_it_open_reads_what_was_there_before(tmp_path: Path) -> None:
    put(tmp_path / "told", "before")
    with (tmp_path / "told").open() as reading:
        put(tmp_path / "told", "after")
        assert reading.read() == "before"
    assert (tmp_path / "told").read_text() == "after"


def test_while_it_is_written_there_is_none_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    write = Path.write_text

    def looking(path: Path, text: str) -> int:
        path.touch()
        seen.append((tmp_path / "told").exists())
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", looking)
    put(tmp_path / "told", "20")
    assert seen == [False]
