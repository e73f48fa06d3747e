"""The world around the service under test: what its clock says, and what becomes of names that are looked up.

Python imports a module of this name at its start, in every process that has this directory on PYTHONPATH. So nothing of
the product knows of it. The directory named in FAULTS_WORLD says how things are just now:

- `clock.PID`: seconds by which the wall clock of that process is set wrong; `clock.PID.seen` is written by it when it
  first looked at such a clock. Monotonic clocks go on as ever.
- `names`: JSON, what becomes of a name that ends in `.test`: an address, `fail`, `hang`, or `kill`, which ends the
  process by SIGKILL. Each lookup leaves a line in `asked`. All other names but localhost are unknown, so that nothing
  leaves the machine.
"""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

#: Seconds that a hanging lookup takes, as libc's takes with name servers that do not answer.
HANGING = 20.0


def _set_clock(place: Path) -> None:
    file, real, real_ns = str(place / f"clock.{os.getpid()}"), time.time, time.time_ns
    read: dict[int, float] = {}  # by the moment at which the file was written

    def ahead() -> float:
        try:
            written = os.stat(file).st_mtime_ns
        except FileNotFoundError:
            return 0.0
        if written not in read:
            stated = Path(file).read_text()
            read[written] = float(stated)
            Path(f"{file}.seen").write_text(stated)
        return read[written]

    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + int(ahead() * 1e9)


def _set_names(place: Path) -> None:
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *others: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not name or name == "localhost" or _is_address(name):
            return real(host, port, *others, **named)
        with (place / "asked").open("a") as asked:
            asked.write(f"{name}\n")
        fate = json.loads((place / "names").read_text()).get(name, "fail") if (place / "names").exists() else "fail"
        match fate:
            case "fail":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            case "hang":
                time.sleep(HANGING)
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
        return real(fate, port, *others, **named)

    socket.getaddrinfo = look_up


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


if directory := os.environ.get("FAULTS_WORLD"):
    _set_clock(Path(directory))
    _set_names(Path(directory))
