"""A master in a process of its own. Arguments: the drain deadline in seconds, then toys as in `Stage`."""

from __future__ import annotations

import asyncio
import sys

from stage import programs

from notifier import logs
from notifier.supervision.departure import Limits
from notifier.supervision.master import Master

if __name__ == "__main__":
    logs.configure("info", "json", "master")
    limits = Limits(drain=float(sys.argv[1]), term=5, quick=5)

    async def reload() -> dict[str, list[str]]:
        return {"live": ["tea"], "restart": []}

    async def run() -> int:
        return await Master(programs(*sys.argv[2:]), limits, reload=reload).run()

    sys.exit(asyncio.run(run()))
