"""`notifier enqueue` as a producer uses it: what is printed is on the broker, and what is not is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from notifier.cli.sending import MOST
from tests.acceptance.service import NOTIFIER, environment, notifier
from tests.integration.amqp.proxy import Proxy
from tests.integration.amqp.queues import Bench

URL = "http://127.0.0.1:9/hook"


@pytest.fixture
def variables(broker: Any, namespace: str) -> dict[str, str]:
    return environment(broker.url, namespace, NOTIFIER_LADDER="0s")


@pytest.fixture
async def bench(broker: Any) -> AsyncIterator[Bench]:
    async with Bench.at(broker.url) as bench:
        yield bench


def line(**fields: object) -> str:
    return json.dumps({"merchant": "m", "url": URL, "payload": {"order": 1}} | fields)


def lines(count: int) -> str:
    return "".join(line(id=f"n{number}", payload=number) + "\n" for number in range(count))


@contextlib.asynccontextmanager
async def enqueueing(variables: Mapping[str, str], **options: Any) -> AsyncIterator[Process]:
    """An `enqueue --file -` whose stdin, stdout and stderr the test holds."""
    process = await asyncio.create_subprocess_exec(
        NOTIFIER,
        "enqueue",
        "--file",
        "-",
        env=dict(variables),
        **{"stdin": PIPE, "stdout": PIPE, "stderr": PIPE} | options,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ids_of(process: Process, count: int) -> list[str]:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return [(await process.stdout.readline()).decode().strip() for _ in range(count)]


async def ending(process: Process) -> str:
    """Everything on stderr until its end."""
    assert process.stderr is not None
    async with asyncio.timeout(30):
        said = (await process.stderr.read()).decode()
        await process.wait()
    return said


async def test_one_notification_is_on_the_broker_byte_for_byte_under_the_printed_id(
    variables: dict[str, str], bench: Bench
) -> None:
    payload = '{"order": 42,  "amount": 10.00, "name": "Zoë"}'
    code, out, err = await notifier(
        variables, "enqueue", "--merchant", "shop-7", "--url", URL, "--payload", payload, "--reference", "order 42"
    )
    assert code == 0
    assert re.fullmatch(r"ntf_[0-9a-f]{32}\n", out)
    (message,) = await bench.take(f"{variables['NOTIFIER_NAMESPACE']}.work.0s")
    assert message.body == payload.encode()
    assert message.content_type == "application/json"
    stated = {"notification": out.strip(), "merchant": "shop-7", "url": URL, "ladder": "0s", "reference": "order 42"}
    assert stated.items() <= message.headers.items()
    queue = f"{variables['NOTIFIER_NAMESPACE']}.work.0s"
    waits = "what is accepted waits in RabbitMQ until `notifier run` is running"
    assert err == f"notifier: nobody consumes {queue}: {waits}\n"


async def test_the_payload_comes_from_a_file_or_from_standard_input_as_it_is(
    variables: dict[str, str], bench: Bench, tmp_path: Path
) -> None:
    payload = b' {"a": 1.10,\r\n "b": "\xc3\xab"}\n'
    (tmp_path / "order.json").write_bytes(payload)
    one = ["enqueue", "--merchant", "m", "--url", URL, "--payload"]
    assert (await notifier(variables, *one, f"@{tmp_path}/order.json"))[0] == 0
    assert (await notifier(variables, *one, "-", stdin=payload))[0] == 0
    taken = await bench.take(f"{variables['NOTIFIER_NAMESPACE']}.work.0s", 2)
    assert [message.body for message in taken] == [payload, payload]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--payload", "paid"], "--payload: malformed JSON: Expecting value at column 1"),
        (["--payload", "@nowhere.json"], "nowhere.json cannot be read: No such file or directory"),
        (["--payload", "@/dev/zero"], "--payload: more than the 262,144 bytes that are accepted"),
        (["--payload", "1", "--url", "shop.example/paid"], "must start with https:// or http://"),
        (["--payload", "1", "--url", "https://u:p@shop.example/"], "the url holds a user name or password"),
        (["--payload", "1", "--ladder", "0s,7s"], "names 7s, which no process serves; configured tiers: 0s"),
        (["--payload", "1", "--id", "a b"], "'a b' is not a notification id"),
        (["--payload", "1", "--reference", "x" * 300], "is not a reference"),
    ],
)
async def test_bad_input_says_what_is_wrong_and_sends_nothing(
    variables: dict[str, str], arguments: list[str], said: str
) -> None:
    code, out, err = await notifier(variables, "enqueue", "--merchant", "m", *arguments)
    assert (code, out) == (1, "")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "missing: --merchant, --payload"),
        (["--payload", "1"], "missing: --merchant"),
        (["--file", "f", "--merchant", "m", "--id", "i"], "leave out --merchant, --id"),
    ],
)
async def test_what_contradicts_itself_is_a_usage_error(
    variables: dict[str, str], arguments: list[str], said: str
) -> None:
    code, out, err = await notifier(variables, "enqueue", *arguments)
    assert (code, out) == (2, "")
    assert said in err


async def test_without_a_broker_named_both_ways_to_one_are_told() -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    code, out, err = await notifier(variables, "enqueue", "--merchant", "m", "--payload", "1")
    assert (code, out) == (78, "")
    assert "export NOTIFIER_AMQP_URL=amqp://" in err
    assert "make broker" in err


async def test_a_broker_that_cannot_be_reached_is_named_with_the_time_tried(variables: dict[str, str]) -> None:
    with socket.socket() as closed:  # bound, but not listening
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        variables |= {"NOTIFIER_AMQP_URL": f"amqp://u:secret@127.0.0.1:{port}/", "NOTIFIER_CONNECT_TIMEOUT": "1"}
        code, out, err = await notifier(variables, "enqueue", "--merchant", "m", "--payload", "1")
    assert (code, out) == (1, "")
    assert re.search(rf"could not be reached in [1-9] s \(\d+ tries\): amqp://u:\*\*\*@127.0.0.1:{port}/", err)
    assert "secret" not in err


BAD = [
    ('{"merchant": "m"', "malformed JSON: Expecting ',' delimiter at column 17"),
    (line(color="red"), "unknown field 'color'; known are merchant, url, payload, ladder, id, reference"),
    ('{"payload": 1}', "merchant missing"),
    (line(url="shop.example/paid"), "'shop.example/paid' is not a url to post to: it must start with https://"),
    (line(url="https://u:p@shop.example/"), "the url holds a user name or password before the host"),
    (line(ladder="0s,7s"), "ladder 0s,7s names 7s, which no process serves; configured tiers: 0s"),
    (line(id="a b"), "'a b' is not a notification id"),
    (line(id="twice"), "id 'twice' is on line 1 already"),
    (line(payload="x" * 300_000), "the payload holds 300,002 bytes; at most 262,144 are accepted"),
    (line(payload="x" * 3_000_000), "too long for a payload of 262,144 bytes"),
    ('{"merchant": "m\udcff", "payload": 1}', "not UTF-8: byte 16 is 0xff"),
    ("[1, 2]", "not a JSON object"),
]


async def test_bad_lines_are_told_by_number_and_the_others_are_sent_in_order(
    variables: dict[str, str], bench: Bench, tmp_path: Path
) -> None:
    text = line(id="twice") + "\n"
    for number, (bad, _) in enumerate(BAD):
        text += f"{bad}\n\n{line(id=f'good-{number}', payload=number)}\n"
    file = tmp_path / "notifications.jsonl"
    file.write_text(text, encoding="utf-8", errors="surrogateescape")
    code, out, err = await notifier(variables, "enqueue", "--file", str(file))
    good = ["twice", *(f"good-{number}" for number in range(len(BAD)))]
    assert (code, out.split()) == (1, good)
    told = [said for said in err.splitlines() if said.startswith("notifier: line ")]
    for number, (said, (_, expected)) in enumerate(zip(told, BAD, strict=True)):
        assert said.startswith(f"notifier: line {2 + 3 * number}: {expected}")
    assert f"{len(good)} accepted, {len(BAD)} not" in err
    taken = await bench.take(f"{variables['NOTIFIER_NAMESPACE']}.work.0s", len(good))
    assert [message.headers["notification"] for message in taken] == good
    assert [message.body for message in taken[1:]] == [str(number).encode() for number in range(len(BAD))]


async def test_a_bad_line_does_not_use_up_its_id(variables: dict[str, str]) -> None:
    both = f"{line(id='a', url='nowhere')}\n{line(id='a')}\n"
    code, out, err = await notifier(variables, "enqueue", "--file", "-", stdin=both.encode())
    assert (code, out) == (1, "a\n")
    assert "already" not in err


async def test_lines_that_come_slowly_are_sent_as_they_come(variables: dict[str, str]) -> None:
    async with enqueueing(variables) as process:
        assert process.stdin is not None
        for number in range(3):
            process.stdin.write(f"{line(id=f'n{number}')}\n".encode())
            assert await ids_of(process, 1) == [f"n{number}"]
        process.stdin.write(line(id="last").encode())  # without a line end
        process.stdin.close()
        assert await ids_of(process, 1) == ["last"]
        await ending(process)
        assert process.returncode == 0


async def test_a_reader_that_leaves_stops_nothing(variables: dict[str, str], bench: Bench) -> None:
    reader, writer = os.pipe()
    async with enqueueing(variables, stdout=writer) as process:
        os.close(writer)
        assert process.stdin is not None
        process.stdin.write(lines(1).encode())
        assert await asyncio.to_thread(os.read, reader, 100) == b"n0\n"
        os.close(reader)
        process.stdin.write(lines(500).removeprefix(lines(1)).encode())
        process.stdin.close()
        said = await ending(process)
    assert process.returncode == 1
    assert said.count("the ids can no longer be printed (the reader of stdout left)") == 1
    assert "500 accepted" in said
    assert "Traceback" not in said
    assert await bench.ready(f"{variables['NOTIFIER_NAMESPACE']}.work.0s") == 500


async def test_nobody_who_reads_stdout_and_stderr_stops_nothing(variables: dict[str, str], bench: Bench) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    async with enqueueing(variables, stdout=writer, stderr=writer) as process:
        os.close(writer)
        await process.communicate(lines(50).encode())
    assert process.returncode == 1
    assert await bench.ready(f"{variables['NOTIFIER_NAMESPACE']}.work.0s") == 50


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_standard_stream_that_was_closed_before_the_start_stops_nothing(
    variables: dict[str, str], bench: Bench, closed: str
) -> None:
    command = f"{shlex.quote(NOTIFIER)} enqueue --merchant m --url {URL} --payload 1 {closed}"
    shell = await asyncio.create_subprocess_shell(command, env=variables, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(30):
        out, _ = await shell.communicate()
    assert shell.returncode == (1 if ">&-" in closed.split() else 0)
    assert len(out.split()) == 1 - bool(shell.returncode)
    assert await bench.ready(f"{variables['NOTIFIER_NAMESPACE']}.work.0s") == 1


async def test_ctrl_c_says_after_which_line_it_stopped_and_everything_before_it_is_sent(
    variables: dict[str, str], bench: Bench
) -> None:
    async with enqueueing(variables) as process:
        assert process.stdin is not None
        process.stdin.write(f"{lines(7)}?\n{lines(9).removeprefix(lines(7))}".encode())
        assert await ids_of(process, 9) == [f"n{number}" for number in range(9)]
        process.send_signal(signal.SIGINT)  # it waits for more lines
        said = await ending(process)
    assert process.returncode == 130
    assert "stopped after line 10: 9 accepted, 1 not" in said
    assert "Traceback" not in said
    assert await bench.ready(f"{variables['NOTIFIER_NAMESPACE']}.work.0s") == 9


async def test_ctrl_c_twice_does_not_wait_and_names_the_lines_that_nobody_confirmed(
    broker: Any, variables: dict[str, str]
) -> None:
    async with Proxy(broker.url) as proxy:
        variables["NOTIFIER_AMQP_URL"] = proxy.url
        async with enqueueing(variables) as process:
            assert process.stdin is not None
            process.stdin.write(lines(3).encode())
            assert len(await ids_of(process, 3)) == 3
            proxy.downward.clear()
            more = "".join(line(id=f"n{number}", payload="x" * 5000) + "\n" for number in (3, 4))
            process.stdin.write(more.encode())
            await proxy.asked(2 * 5000)  # nothing but both of them is so long
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            async with asyncio.timeout(20):
                while b"Ctrl-C again does not wait" not in await process.stderr.readline():
                    pass
            process.send_signal(signal.SIGINT)
            said = await ending(process)
            proxy.downward.set()
    assert process.returncode == 130
    assert "stopped after line 5: 3 accepted. 2 of lines 4 to 5 were sent but not confirmed" in said


async def test_a_connection_lost_in_the_middle_is_told_and_nothing_is_lost(
    broker: Any, variables: dict[str, str], bench: Bench
) -> None:
    count, queue = 1000, f"{variables['NOTIFIER_NAMESPACE']}.work.0s"
    async with Proxy(broker.url) as proxy:
        variables["NOTIFIER_AMQP_URL"] = proxy.url
        async with enqueueing(variables) as process:
            assert process.stdin is not None
            process.stdin.write(lines(count - 100).encode())
            ids = await ids_of(process, 100)
            proxy.cut()
            process.stdin.write(lines(count).removeprefix(lines(count - 100)).encode())
            process.stdin.close()
            ids += await ids_of(process, count - 100)
            said = await ending(process)
    assert process.returncode == 0, said
    assert ids == [f"n{number}" for number in range(count)]
    assert "the connection to RabbitMQ was lost" in said
    assert "connected to RabbitMQ at" in said
    taken = await bench.take(queue, await bench.ready(queue), timeout=30)
    found = Counter(message.headers["notification"] for message in taken)
    assert set(found) == set(ids)
    assert max(found.values()) <= 2  # only what was unconfirmed when the connection was lost, and once each
    assert found.total() <= count + MOST


async def test_where_somebody_consumes_there_is_no_warning(
    broker: Any, variables: dict[str, str], namespace: str
) -> None:
    one = ["enqueue", "--merchant", "m", "--url", URL, "--payload", "1"]
    await notifier(variables, *one)
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(f"{namespace}.work.0s", ensure=False)

        async def leave_alone(_: AbstractIncomingMessage) -> None:
            return None

        await queue.consume(leave_alone)
        code, _, err = await notifier(variables, *one)
    assert (code, err) == (0, "")


async def test_without_a_url_it_warns_that_the_notification_will_be_held(variables: dict[str, str]) -> None:
    code, _, err = await notifier(variables, "enqueue", "--merchant", "m", "--payload", "1")
    assert code == 0
    assert "it names no url" in err
    two = f"{line(url=None)}\n{line(url=None)}\n{line()}"
    code, _, err = await notifier(variables, "enqueue", "--file", "-", stdin=two.encode())
    assert code == 0
    assert "2 name no url" in err
    variables["NOTIFIER_CALLBACK"] = "my.module:function"  # needs no url
    _, _, err = await notifier(variables, "enqueue", "--merchant", "m", "--payload", "1")
    assert "url" not in err


async def test_enqueueing_before_the_first_run_makes_what_run_needs(variables: dict[str, str]) -> None:
    variables["NOTIFIER_LADDER"] = "1s,3s"
    code, _, _ = await notifier(variables, "enqueue", "--merchant", "m", "--url", URL, "--payload", "1")
    assert code == 0
    _, out, _ = await notifier(variables, "topology", "show", "--json")
    shown = json.loads(out)
    assert all(each["exists"] for each in shown["queues"] + shown["exchanges"])


@pytest.mark.plugin
async def test_with_the_plugin_it_waits_in_the_delayed_exchange(
    variables: dict[str, str], bench: Bench, namespace: str
) -> None:
    variables |= {"NOTIFIER_LADDER": "1s", "NOTIFIER_DELAY": "plugin"}
    code, out, _ = await notifier(variables, "enqueue", "--merchant", "m", "--url", URL, "--payload", "1")
    assert code == 0
    (message,) = await bench.take(f"{namespace}.work.1s")
    assert message.headers["notification"] == out.strip()


async def test_on_a_terminal_it_shows_how_far_it_is_and_ends_with_a_summary(
    variables: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "notifications.jsonl"
    file.write_text(lines(2000))
    terminal, side = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        NOTIFIER,
        "enqueue",
        "--file",
        str(file),
        env={**variables, "TERM": "xterm"},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=side,
    )
    os.close(side)
    showing = asyncio.create_task(asyncio.to_thread(_all_of, terminal))
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
        shown = await showing
    assert process.returncode == 0
    assert out.decode().split() == [f"n{number}" for number in range(2000)]
    assert re.search(r"\d+ accepted · [\d,]+/s", shown)
    assert re.search(r"notifier: 2,000 accepted, in \d+\.\d s \([\d,]+/s\)", shown)


def _all_of(terminal: int) -> str:
    text = b""
    try:
        while piece := os.read(terminal, 65_536):
            text += piece
    except OSError:
        pass  # the other side is gone
    os.close(terminal)
    return text.decode()


def test_what_a_single_notification_does_not_need_is_not_even_imported() -> None:
    """So that a shell script can enqueue in a loop."""
    check = "import sys, notifier.cli.enqueue; print({'rich', 'aiohttp', 'aio_pika', 'sqlite3'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
