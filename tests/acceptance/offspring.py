"""The processes that a command of the tests started, and whether they are gone."""

from __future__ import annotations

import contextlib
from pathlib import Path


def started_by(pid: int, mark: str) -> dict[int, str]:
    """Every process below this one, and those that left its tree but inherited the mark, with their command lines.

    Both ways, since a daemon leaves the tree and a process that sets its title overwrites its environment.
    """
    children: dict[int, list[int]] = {}
    found = {}
    for directory in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not directory.name.isdigit():
                continue
            parent = int((directory / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(directory.name))
            if f"MARK={mark}".encode() in (directory / "environ").read_bytes():
                found[int(directory.name)] = command_line(directory)
    below = [pid]
    for each in below:
        below += children.get(each, [])
        found[each] = command_line(Path(f"/proc/{each}"))
    return found


def command_line(directory: Path) -> str:
    try:
        return (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Whether it still runs; one that has ended and was not yet reaped by init does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
