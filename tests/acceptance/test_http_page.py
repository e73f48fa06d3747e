"""docs/http.md: each command is run as it stands there, and answers with the members that the page shows."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, running

PAGE = (Path(__file__).parents[2] / "docs/http.md").read_text()
SHOWN = re.findall(r"^```sh\n(.*?)^```\n\n```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: Where the page's merchant listens.
MERCHANT = "http://127.0.0.1:9000"


async def test_the_commands_of_the_page_answer_as_it_shows(broker: Any, namespace: str) -> None:
    async with Simulator() as merchant, running(environment(broker.url, namespace), whole=True) as service:
        for command, shown in SHOWN:
            answer = await asked(command.replace(MERCHANT, merchant.url), service.dashboard)
            if "attempt_log" in json.loads(shown):
                answer = await once_completed(command, service.dashboard)
            missing = list(lacking(json.loads(shown), answer))
            assert missing == [], f"{command}{json.dumps(answer, indent=1)}"
        assert {each.webhook_id for each in merchant.received} >= {"order-42-paid"}


def test_every_command_of_the_page_has_an_answer() -> None:
    assert len(SHOWN) == PAGE.count("```sh\n") == PAGE.count("```json\n") >= 12


async def asked(command: str, api: str) -> Any:
    """What a shell prints that runs it."""
    process = await asyncio.create_subprocess_exec(
        *("sh", "-e", "-c", command),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "API": api},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


async def once_completed(command: str, api: str) -> Any:
    """The ledger tells nobody when a notification is there and completed, so it is asked."""
    deadline = time.monotonic() + 30
    while (answer := await asked(command, api)).get("status") != "completed":
        assert time.monotonic() < deadline, answer
        await asyncio.sleep(0.1)
    return answer


def lacking(shown: Any, said: Any, place: str = "") -> Iterator[str]:
    """What the page shows and the answer does not have. Values count where they are a state or a number of a result."""
    if isinstance(shown, dict):
        for name, value in shown.items():
            if not isinstance(said, dict) or name not in said:
                yield f"{place}.{name}"
            else:
                yield from lacking(value, said[name], f"{place}.{name}")
                if name in COMPARED and not isinstance(value, dict) and said[name] != value:
                    yield f"{place}.{name} is {said[name]!r}"
    elif isinstance(shown, list) and shown and isinstance(shown[0], dict):
        for number, (one, other) in enumerate(zip(shown, said, strict=True)):
            yield from lacking(one, other, f"{place}[{number}]")


COMPARED = (
    "status",
    "standing",
    "accepted",
    "refused",
    "run",
    "paused",
    "detail",
    "ladder",
    "payload",
    "unknown",
    "live",
)
