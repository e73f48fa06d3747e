"""A toy child: behaves as its first argument says. What it prints is what the tests wait for."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from notifier.errors import ChildFailed
from notifier.supervision import child, frames
from notifier.supervision.child import Parent


def say(word: str) -> None:
    print(word, flush=True)


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


async def joined() -> Parent:
    parent = await Parent.join(options.fd, options.slot, options.epoch)
    say(f"joined careful={parent.careful} deaths={dict(parent.deaths)} boot={dict(parent.boot)}")
    return parent


async def good() -> int:
    """Ready, and finishes when told to."""
    parent = await joined()
    await parent.ready()
    await parent.draining.wait()
    say("draining")
    await parent.close()
    return 0


async def dies_until(epoch: str) -> int:
    """Is killed right after it was ready, up to this epoch; is good from then on."""
    if options.epoch > int(epoch):
        return await good()
    parent = await joined()
    await parent.ready()
    die()


async def exits(code: str) -> int:
    """Ends at once, without a word."""
    return int(code)


async def good_once() -> int:
    """Good in its first life; from then on it ends at its start."""
    return await good() if options.epoch == 1 else 3


async def exits_later(code: str) -> int:
    """Was ready once; from then on it ends at its start with this code."""
    if options.epoch > 1:
        return int(code)
    parent = await joined()
    await parent.ready()
    die()


async def refuses_later(code: str, message: str) -> int:
    """Was ready once; from then on it refuses to start."""
    return await (refuses(code, message) if options.epoch > 1 else dies_until("1"))


async def refuses(code: str, message: str) -> int:
    """Joins, tells the master that it cannot start, ends with the code."""
    parent = await joined()
    await parent.refuse(int(code), message)
    await parent.close()
    return int(code)


async def refuses_and_stays() -> int:
    """Tells the master that it cannot start, and waits to be told to go."""
    parent = await joined()
    await parent.refuse(78, "never")
    await parent.draining.wait()
    return 78


async def never_ready() -> int:
    """Joins and is never ready, but leaves when told to."""
    parent = await joined()
    await parent.draining.wait()
    say("draining")
    await parent.close()
    return 0


async def never_joins() -> int:
    """Says nothing at all; dies of SIGTERM as processes do."""
    say("awake")
    await asyncio.Event().wait()
    return 0


async def never_joins_nor_goes() -> int:
    """Says nothing at all and ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("awake")
    await asyncio.Event().wait()
    return 0


async def progresses(times: str, pause: str) -> int:
    """Reports progress so often, with so many seconds in between, then is good."""
    parent = await Parent.join(options.fd, options.slot, options.epoch)
    for number in range(int(times)):
        await parent.progress(f"waiting for the kettle, sign {number}")
        await asyncio.sleep(float(pause))
    await parent.ready()
    await parent.draining.wait()
    await parent.close()
    return 0


async def stays() -> int:
    """Ready, and leaves neither for a message nor for SIGTERM."""
    parent = await joined()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await parent.ready()
    await parent.draining.wait()
    say("draining but staying")
    await asyncio.Event().wait()
    return 0


async def hurries() -> int:
    """Ready, takes forever to drain, and leaves at once when told to be quick."""
    parent = await joined()
    await parent.ready()
    await parent.draining.wait()
    say("draining slowly")
    await parent.quick.wait()
    say("leaving quickly")
    await parent.close()
    return 0


async def claims(*keys: str) -> int:
    """Claims these keys and is killed, until one is condemned or the epoch is 9; then it is good."""
    parent = await joined()
    await parent.ready()
    if options.epoch < 9 and not any(parent.deaths.get(key, 0) >= 3 for key in keys):
        await parent.claim(keys)
        die()
    await parent.draining.wait()
    await parent.close()
    return 0


async def calms() -> int:
    """Is killed in its first and third life, the third time after it said that it is calm again."""
    parent = await joined()
    await parent.ready()
    if options.epoch == 1:
        die()
    if options.epoch == 2:
        await parent.calm()
        die()
    await parent.draining.wait()
    await parent.close()
    return 0


async def closes_its_pipe() -> int:
    """Was ready, closes the pipe and goes on living."""
    parent = await joined()
    await parent.ready()
    await parent.close()
    await asyncio.Event().wait()
    return 0


async def stuck(seconds: str) -> int:
    """Ready, then its event loop is stuck; the guard is set to so many seconds."""
    child.STUCK = float(seconds)
    parent = await joined()
    await parent.ready()
    time.sleep(3600)  # noqa: ASYNC251 - being stuck is what this toy is for
    return 0


async def orphan(drain_ignored: str) -> int:
    """Ready; when the master is gone it goes on working, if so told, until it is ended by force."""
    child.LAST_GRACE = 0.2
    parent = await joined()
    await parent.ready()
    await parent.draining.wait()
    if drain_ignored == "yes":
        await asyncio.Event().wait()
    return 0


async def talks() -> int:
    """Prints what a master that shows lines must cope with."""
    parent = await joined()
    sys.stdout.buffer.write(b"not utf-8: \xff\n" + b"x" * 200_000 + b"\nlast words without an end")
    sys.stdout.flush()
    await parent.ready()
    await parent.draining.wait()
    await parent.close()
    return 0


async def leaves_a_program_behind() -> int:
    """Ends at once, while a program that it started holds its stdout open."""
    parent = await joined()
    left = await asyncio.create_subprocess_exec("sleep", "3600")
    say(f"left {left.pid}")
    await parent.ready()
    await parent.draining.wait()
    os._exit(0)


def raw() -> socket.socket:
    """The pipe, HELLO and READY said by hand, nothing read."""
    pipe = socket.socket(fileno=options.fd)
    hello = {"protocol": child.PROTOCOL, "slot": options.slot, "epoch": options.epoch, "pid": os.getpid()}
    pipe.sendall(frames.encode({"ask": "hello", "id": 1, "body": hello}))
    pipe.sendall(frames.encode({"ask": "ready", "id": 2, "body": {}}))
    return pipe


async def deaf() -> int:
    """Ready, never reads its pipe, ignores SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with raw():
        await asyncio.Event().wait()
    return 0


async def floods() -> int:
    """Asks without end and reads no answer."""
    pipe = raw()
    request = frames.encode({"ask": "claim", "id": 3, "body": {"keys": ["k" * 100]}})
    while True:
        pipe.sendall(request)


async def sends(what: str) -> int:
    """In its first life it sends what is no message, then it is good."""
    if options.epoch > 1:
        return await good()
    hello = {"protocol": child.PROTOCOL, "slot": options.slot, "epoch": options.epoch, "pid": os.getpid()}
    said = {
        "garbage": struct.pack(">I", 5) + b"hello",
        "oversize": struct.pack(">I", frames.LIMIT + 1),
        "ready-first": frames.encode({"ask": "ready", "id": 1, "body": {}}),
        "claim-first": frames.encode({"ask": "claim", "id": 1, "body": {"keys": []}}),
        "unknown-word": frames.encode({"ask": "hello", "id": 1, "body": hello})
        + frames.encode({"tell": "sing", "body": {}}),
        "other-slot": frames.encode({"ask": "hello", "id": 1, "body": {**hello, "slot": "other"}}),
        "other-protocol": frames.encode({"ask": "hello", "id": 1, "body": {**hello, "protocol": 99}}),
    }[what]
    pipe = socket.socket(fileno=options.fd)
    pipe.sendall(said)
    await asyncio.Event().wait()
    return 0


BEHAVIOURS: dict[str, Callable[..., Coroutine[Any, Any, int]]] = {
    behaviour.__name__.replace("_", "-"): behaviour
    for behaviour in (
        good, good_once, dies_until, exits, exits_later, refuses_later, refuses, refuses_and_stays, never_ready,
        never_joins, never_joins_nor_goes, progresses, stays, hurries, claims, calms, closes_its_pipe, stuck, orphan,
        talks, leaves_a_program_behind, deaf, floods, sends,
    )
}  # fmt: skip

parser = argparse.ArgumentParser()
parser.add_argument("behaviour", choices=BEHAVIOURS)
parser.add_argument("words", nargs="*")
parser.add_argument("--slot", required=True)
parser.add_argument("--epoch", type=int, required=True)
parser.add_argument("--fd", type=int, required=True)
options = parser.parse_args()

if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(BEHAVIOURS[options.behaviour](*options.words)))
    except ChildFailed as error:
        sys.exit(f"the toy failed: {error}")
