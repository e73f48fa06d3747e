"""A toy child that does what messages and the desired state tell it. What it prints is what the tests wait for."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from typing import Any

from notifier.errors import ChildFailed
from notifier.supervision.actions import Sender
from notifier.supervision.child import Parent


def say(word: str) -> None:
    print(word, flush=True)


class Operable:
    def __init__(self, parent: Parent) -> None:
        self.parent = parent
        self.heard: list[Any] = []
        self.go = asyncio.Event()
        parent.statistics = lambda: {"heard": len(self.heard), "slot": options.slot}
        for action in ("echo", "note", "notes", "fails", "never", "huge", "relay", "relay_tell", "ends", "state"):
            parent.on(action, getattr(self, action))

    async def echo(self, data: Any, sender: Sender) -> Any:
        return {"data": data, "from": sender.slot, "epoch": sender.epoch, "here": options.slot}

    async def note(self, data: Any, sender: Sender) -> None:
        self.heard.append(data)
        say(f"noted {data} from {sender.slot}")

    async def notes(self, data: Any, sender: Sender) -> Any:
        return self.heard

    async def fails(self, data: Any, sender: Sender) -> Any:
        raise KeyError("a bug of this handler")

    async def never(self, data: Any, sender: Sender) -> Any:
        say("never called")
        await asyncio.Event().wait()

    async def huge(self, data: Any, sender: Sender) -> Any:
        return "x" * 2_000_000

    async def relay(self, data: Any, sender: Sender) -> Any:
        replies = await self.parent.ask(data["to"], data["action"], data.get("data"), data.get("timeout", 30))
        return [reply.shown() for reply in replies]

    async def relay_tell(self, data: Any, sender: Sender) -> Any:
        return [reply.shown() for reply in await self.parent.tell(data["to"], data["action"], data.get("data"))]

    async def ends(self, data: Any, sender: Sender) -> Any:
        say("ends")
        os.kill(os.getpid(), getattr(signal, data))

    async def state(self, data: Any, sender: Sender) -> Any:
        return {"version": self.parent.version, "state": dict(self.parent.state)}

    async def on_state(self, key: str, value: Any) -> None:
        match key:
            case "go":
                self.go.set()
            case "fail":
                raise ValueError(f"cannot be {value}")
            case "hang" if value == options.slot and options.epoch == 1:
                say("hangs")
                await asyncio.Event().wait()
            case "stuck" if value == options.slot and options.epoch == 1:
                say("stuck")
                time.sleep(3600)  # noqa: ASYNC251 - being stuck is what this is for
            case "gil" if value == options.slot and options.epoch == 1:
                say("holds the lock")
                re.match(r"(a?){40}a{40}", "a" * 40)  # for ages, in C, and the lock is kept
            case "paused":
                self.parent.paused = value is not None
        if not key.startswith("quiet"):
            say(f"applied {key}={value}")


async def live(when: str) -> int:
    parent = await Parent.join(options.fd, options.slot, options.epoch)
    toy = Operable(parent)
    say(f"joined state={len(parent.state)} version={parent.version}")
    await parent.follow(toy.on_state)
    if when == "go":
        waits = [asyncio.create_task(event.wait()) for event in (toy.go, parent.draining)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    await parent.ready()
    await parent.draining.wait()
    say("draining")
    await parent.close()
    return 0


parser = argparse.ArgumentParser()
parser.add_argument("when", nargs="?", default="now", help="ready now, or when the key `go` is set")
parser.add_argument("--slot", required=True)
parser.add_argument("--epoch", type=int, required=True)
parser.add_argument("--fd", type=int, required=True)
options = parser.parse_args()

if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(live(options.when)))
    except ChildFailed as error:
        sys.exit(f"the toy failed: {error}")
