"""The private node on this machine: it works, it stays apart, and it is gone."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import aio_pika
import pytest
import pytest_asyncio

import notifier
from notifier.broker import installation
from notifier.broker.node import PrivateNode
from notifier.broker.node_files import NodeFiles, Ports
from notifier.errors import BrokerError, NoBroker

pytestmark = pytest.mark.usefixtures("installed_server")

_PORTS_OF_THE_MACHINE = {4369, 5672, 25672, *range(35672, 35683)}

_IS_ROOT = os.getuid() == 0

OWNER = """
import asyncio, pathlib, sys
from notifier.broker.node import PrivateNode

async def own():
    async with await PrivateNode.start(directory=pathlib.Path(sys.argv[1])) as node:
        print(node.url, flush=True)
        await asyncio.Event().wait()

try:
    asyncio.run(own())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def node(installed_server: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateNode]:
    directory = tmp_path_factory.mktemp("node") / "a directory with spaces"
    async with await PrivateNode.start(directory=directory) as node:
        yield node


@pytest.fixture
def owner() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts another process that owns a node, in a process group of its own as a terminal would make it."""
    started: list[subprocess.Popen[str]] = []

    def start(directory: Path, python: Path | str = sys.executable, **options: object) -> subprocess.Popen[str]:
        command = [str(python), "-c", OWNER, str(directory)]
        started.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0, **options)  # type: ignore[call-overload]
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.long
async def test_what_was_confirmed_survives_a_kill_of_the_node_at_the_same_address(node: PrivateNode) -> None:
    await _publish(node.url, "survivors", 20)
    await node.write_queue_names()
    first = node.pid

    await node.kill()
    _await_ends([first])
    await node.restart()

    assert node.pid != first
    assert await _consume(node.url, "survivors", 20)


async def test_it_shares_the_cores_with_others_and_repeats_a_hand_over_soon(node: PrivateNode) -> None:
    assert await node.ctl("eval", "erlang:system_info(scheduler_bind_type).") == "unbound\n"
    patience = "application:get_env(rabbit, dead_letter_worker_publisher_confirm_timeout)."
    assert await node.ctl("eval", patience) == "{ok,10000}\n"


async def test_ctl_speaks_to_this_node_and_tells_what_it_complains_about(node: PrivateNode) -> None:
    assert str(node.directory / "data") in await node.ctl("eval", "rabbit_mnesia:dir().")
    with pytest.raises(BrokerError, match=r"rabbitmqctl nonsense failed \(64\): Command 'nonsense' not found"):
        await node.ctl("nonsense")


@pytest.mark.long  # beside a kill and a boot after it, above
async def test_a_node_that_was_shut_down_in_its_own_way_boots_again(node: PrivateNode) -> None:
    await node.ctl("shutdown")
    await node.restart()
    assert await _answers(node.url)


async def test_it_listens_on_loopback_only_and_on_no_port_of_the_machine(node: PrivateNode) -> None:
    listening = {address for pid in _processes_of(node.directory) for address in _listening(pid)}
    assert len({port for _, port in listening}) == 3  # AMQP, distribution, epmd
    assert {host for host, _ in listening} <= {"127.0.0.1", "::1"}
    assert not {port for _, port in listening} & _PORTS_OF_THE_MACHINE


async def test_partitions_can_be_hashed_and_the_plugin_is_offered_as_told(node: PrivateNode) -> None:
    assert await _offers(node.url, "x-consistent-hash")
    assert await _offers(node.url, "x-delayed-message", {"x-delayed-type": "direct"}) is node.offers_delayed


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGKILL, marks=[pytest.mark.long] * _IS_ROOT),  # seen as an ordinary user, below
        pytest.param(signal.SIGINT, marks=pytest.mark.long),  # test_dev shows it
    ],
)
def test_it_is_gone_when_its_owner_is(
    number: signal.Signals, tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    process = owner(tmp_path / "node", env={**os.environ, "HOME": str(home)})
    assert process.stdout is not None
    assert process.stdout.readline().startswith("amqp://")
    guarded = _processes_of(tmp_path / "node")

    os.killpg(process.pid, number)  # as a terminal does: to the whole foreground group

    _await_ends(guarded)
    assert not _processes_of(tmp_path / "node")
    assert not (tmp_path / "node").exists()
    assert list(home.iterdir()) == []  # no cookie in the home of the user


def test_it_is_gone_when_its_owner_is_killed_while_it_boots(
    tmp_path: Path, owner: Callable[..., subprocess.Popen[str]]
) -> None:
    process = owner(tmp_path / "node")
    _until(lambda: any(_name(pid) == "beam.smp" for pid in _processes_of(tmp_path / "node")))
    guarded = _processes_of(tmp_path / "node")

    process.kill()

    _await_ends(guarded)
    assert not _processes_of(tmp_path / "node")
    assert not (tmp_path / "node").exists()


async def test_it_is_gone_when_its_guard_is_killed_while_it_boots(tmp_path: Path) -> None:
    starting = asyncio.create_task(PrivateNode.start(directory=tmp_path / "node"))
    async with asyncio.timeout(20):
        while not any(_name(pid) == "beam.smp" for pid in _processes_of(tmp_path / "node")):  # noqa: ASYNC110  see _until
            await asyncio.sleep(0.02)
    guarded = _processes_of(tmp_path / "node")
    [guard] = [pid for pid in guarded if "guard.py" in _command(pid)]

    os.kill(guard, signal.SIGKILL)
    _await_ends(set(guarded) - {guard})

    with pytest.raises(BrokerError, match="is gone"):
        await starting
    assert not (tmp_path / "node").exists()


@pytest.mark.long
async def test_it_is_gone_when_its_guard_is_killed(tmp_path: Path) -> None:
    node = await PrivateNode.start(directory=tmp_path / "node")
    guarded = _processes_of(node.directory)
    [guard] = [pid for pid in guarded if "guard.py" in _command(pid)]

    os.kill(guard, signal.SIGKILL)
    _await_ends(set(guarded) - {guard})

    with pytest.raises(BrokerError, match="is gone"):
        await node.restart()
    await node.stop()
    assert not node.directory.exists()


@pytest.mark.skipif(not _IS_ROOT, reason="everything here runs as an ordinary user already")
def test_it_runs_as_an_ordinary_user(owner: Callable[..., subprocess.Popen[str]]) -> None:
    python = _python_for_everybody()
    if python is None:
        pytest.skip("this Python lies in a directory that other users cannot enter, and there is no other one like it")
    with tempfile.TemporaryDirectory() as code, tempfile.TemporaryDirectory() as place:
        os.chown(place, 54321, 54321)
        _copy_for_everybody(_imported_by_an_owner(), Path(code))
        environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "TMPDIR": place, "PYTHONPATH": code}
        process = owner(
            Path(place, "node"),
            python,
            user=54321,
            group=54321,
            extra_groups=[],
            env=environment,
            cwd=Path(__file__).anchor,
        )
        assert process.stdout is not None
        assert process.stdout.readline().startswith("amqp://")
        guarded = _processes_of(Path(place, "node"))
        assert {Path(f"/proc/{pid}").stat().st_uid for pid in guarded} == {54321}

        process.kill()

        _await_ends(guarded)
        assert os.listdir(place) == []


@pytest.mark.long
@pytest.mark.parametrize("port", ["distribution", pytest.param("amqp", marks=pytest.mark.long)])  # seen later: a boot
async def test_a_port_that_somebody_takes_meanwhile_costs_another_try_and_after_stop_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: str
) -> None:
    free = Ports.free()
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        taken = replace(free, **{port: somebody.getsockname()[1]})
        choices = iter([taken, Ports.free()])
        monkeypatch.setattr(Ports, "free", lambda: next(choices))
        node = await PrivateNode.start(directory=tmp_path / "node")
        assert await _answers(node.url)
        assert len(_processes_of(node.directory)) >= 3  # guard, epmd, VM

        await node.stop()

    assert not _processes_of(node.directory)
    assert not node.directory.exists()
    await node.stop()
    with pytest.raises(BrokerError, match="was stopped"):
        await node.restart()


async def test_a_node_that_does_not_boot_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeFiles, "_configuration", lambda self: "no_such_setting = 1\n")
    with pytest.raises(BrokerError, match=r"(?s)ended while it booted:.*no_such_setting"):
        await PrivateNode.start(directory=tmp_path / "node")
    assert os.listdir(tmp_path) == []


async def test_a_node_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="did not boot in 0 s"):
        await PrivateNode.start(directory=tmp_path / "node", timeout=0.2)
    assert os.listdir(tmp_path) == []


async def test_a_directory_that_is_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(BrokerError, match="is not empty"):
        await PrivateNode.start(directory=tmp_path)
    assert (tmp_path / "precious").exists()


async def test_without_a_server_both_ways_on_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installation, "_USUAL", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RABBITMQ_HOME", raising=False)
    with pytest.raises(NoBroker, match=r"(?s)NOTIFIER_AMQP_URL=.*make setup") as refused:
        await PrivateNode.start()
    assert refused.value.exit_code == 78


def _python_for_everybody() -> Path | None:
    """This one, or one of the same version where others may enter: what is compiled fits both."""
    same = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (Path(sys.executable).resolve(), Path("/usr/bin", same), Path("/usr/local/bin", same)):
        if python.exists() and all(place.stat().st_mode & 0o001 for place in python.resolve().parents):
            return python
    return None


def _imported_by_an_owner() -> list[Path]:
    """The packages that do not belong to Python itself, and what is written about them."""
    tell = """if True:
        import sys, notifier.broker.node
        print(*(getattr(each, "__file__", None) for each in list(sys.modules.values())), sep="\\n")
    """
    told = subprocess.run([sys.executable, "-c", tell], stdout=subprocess.PIPE, text=True, check=True).stdout
    roots = [Path(notifier.__file__).parents[1], Path(aio_pika.__file__).parents[1]]
    files = [Path(line) for line in told.splitlines()]
    beside = {root / file.relative_to(root).parts[0] for root in roots for file in files if file.is_relative_to(root)}
    packages = [each for each in beside if Path(each, "__init__.py").exists()]
    return [*packages, *(about for each in packages for about in each.parent.glob(f"{each.name}-*.dist-info"))]


def _copy_for_everybody(packages: Iterable[Path], directory: Path) -> None:
    """Since a clone may lie where nobody else can enter."""
    for package in packages:
        shutil.copytree(package, directory / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for place in (directory, *directory.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)


async def _publish(url: str, queue: str, count: int) -> None:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue(queue, durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"x", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await asyncio.gather(*(channel.default_exchange.publish(message, queue) for _ in range(count)))


async def _consume(url: str, queue: str, count: int) -> bool:
    connection = await aio_pika.connect(url)
    async with connection, asyncio.timeout(20):
        channel = await connection.channel()
        declared = await channel.declare_queue(queue, passive=True, durable=True)
        async with declared.iterator() as messages:
            async for message in messages:
                await message.ack()
                count -= 1
                if not count:
                    return True
    return False


async def _answers(url: str) -> bool:
    connection = await aio_pika.connect(url)
    await connection.close()
    return True


async def _offers(url: str, kind: str, arguments: dict[str, str] | None = None) -> bool:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        try:
            exchange = await channel.declare_exchange("probe", kind, durable=True, arguments=arguments)
        except aio_pika.exceptions.AMQPError:
            return False
        await exchange.delete()
        return True


def _processes_of(directory: Path) -> list[int]:
    """Every process that was started for the node in this directory, zombies not counted: their memory is gone."""
    mark = os.fsencode(directory)
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes():
                found.append(int(environment.parent.name))
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def _await_ends(pids: list[int] | set[int]) -> None:
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], 20)[0], f"{_command(pid)} is still there"
        finally:
            os.close(handle)


def _until(happened: Callable[[], bool]) -> None:
    """For what has no event to wait for: somebody else's process starting."""
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _name(pid: int) -> str:
    return _read(pid, "comm").strip()


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace("\0", " ")


def _read(pid: int, what: str) -> str:
    try:
        return Path(f"/proc/{pid}/{what}").read_text()
    except OSError:
        return ""


def _listening(pid: int) -> set[tuple[str, int]]:
    """Addresses on which a process listens, from the kernel's own table."""
    sockets = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            sockets.add(os.readlink(link))
        except OSError:
            continue
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                address, port = fields[1].split(":")
                packed = b"".join(bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
                found.add((socket.inet_ntop(family, packed), int(port, 16)))
    return found
