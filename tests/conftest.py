"""The broker of the tests: NOTIFIER_AMQP_URL, else a container if an engine really answers, else a private node.

A missing broker fails the tests that need one; it never skips them. Tests marked `plugin` need a broker that offers the
x-delayed-message exchange: elsewhere they are left out, which is the one reason for that, and the last lines of every
run say how many ran or why none did.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from hypothesis import settings

from notifier.broker import container
from notifier.broker.cleanup import delete_namespace
from notifier.broker.connection import open_once
from notifier.broker.installation import DELAYED_PLUGIN, has_plugin, installed, plugin_directories
from notifier.broker.node import PrivateNode
from notifier.domain.tier import Tier
from notifier.ledger.database import Database
from notifier.ledger.migrating import migrate
from tests.postgres import PrivatePostgres, emptied
from tests.shared_broker import SharedBroker, address_in
from tests.spreading import dealt

GIVEN = "NOTIFIER_AMQP_URL"

# No deadline for an example that hypothesis makes up: a busy machine is not a failing test.
settings.register_profile("notifier", deadline=None)
settings.load_profile("notifier")

#: Tiers that tests use; the objects of others are removed with the private node, or by the test that makes them.
TIERS = tuple(Tier.parse(name) for name in ("0s", "1s", "2s", "3s", "5s", "12s", "15s", "30s"))

_SHARED = pytest.StashKey[SharedBroker]()
_OFFERED = pytest.StashKey[bool]()
_OF_PLUGIN = "mode"


#: A ledger by its dialect and a directory: its address, for the length of a block.
Lending = Callable[[str, Path], contextlib.AbstractAsyncContextManager[str]]


@dataclass(frozen=True, slots=True)
class TestBroker:
    """The broker under test. private: it was started for the tests, from an installed server. source: for people."""

    __test__ = False

    url: str
    source: str
    private: bool = False


def pytest_configure(config: pytest.Config) -> None:
    """Settings of the developer must not change what is tested; only the broker may be named. Neither must a shell that
    started the tests in the background, and so deaf to Ctrl-C: that is inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[_OFFERED] = _plugin_may_run()
    for name in [name for name in os.environ if name.startswith("NOTIFIER_") and name != GIVEN]:
        del os.environ[name]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist is told of the private node that all of them share, booted by the first one's making."""
    if GIVEN in os.environ or container.engine_answers() or installed() is None:
        return
    stash = node.config.stash
    if _SHARED not in stash:
        stash[_SHARED] = SharedBroker()
    node.workerinput["broker"] = str(stash[_SHARED].place)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Gone before the last lines are printed."""
    if shared := session.config.stash.get(_SHARED, None):
        del session.config.stash[_SHARED]
        shared.stop()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
    """Leave out what the broker cannot offer; deal the rest to the workers, if there are any."""
    of_plugin = [item for item in items if item.get_closest_marker("plugin")]
    for item in of_plugin:
        item.user_properties.append((_OF_PLUGIN, "plugin"))  # travels with its report, from a worker too
    if not config.stash[_OFFERED]:
        config.hook.pytest_deselected(items=of_plugin)
        items[:] = [item for item in items if item not in of_plugin]
    yield
    if workers := getattr(config, "workerinput", {}).get("workercount"):
        items[:] = dealt(items, workers)


def pytest_collection_finish() -> None:
    """Thousands of tests stay until the end, so there is no use in looking through them for garbage again and again."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how much of the plugin's mode was tested."""
    ran = {
        report.nodeid
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and (_OF_PLUGIN, "plugin") in map(tuple, report.user_properties)
    }
    if ran:
        terminalreporter.write_line(f"plugin mode: {len(ran)} tests ran")
    elif config.stash[_OFFERED]:
        terminalreporter.write_line("plugin mode: no test of it was selected")
    else:
        terminalreporter.write_line(
            f"plugin mode: no test ran, since {DELAYED_PLUGIN} lies in no directory of RABBITMQ_PLUGINS_DIR and not "
            f"beside the installed server, and no broker that offers it is named in {GIVEN}"
        )


def _plugin_may_run() -> bool:
    """Known before a broker runs: a private node enables the plugin when it finds it; others are asked by declaring."""
    if GIVEN in os.environ:
        return _asked(os.environ[GIVEN])
    scripts = installed()
    if scripts is None or container.engine_answers():
        return False  # the plain image does not have it
    return has_plugin(plugin_directories(scripts, os.environ), DELAYED_PLUGIN)


def _asked(url: str) -> bool:
    async def ask() -> bool:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(10), await aio_pika.connect(url.split(",")[0]) as connection:
                channel = await connection.channel()
                name = f"notifier-probe-{secrets.token_hex(4)}"
                await channel.declare_exchange(
                    name, "x-delayed-message", auto_delete=True, arguments={"x-delayed-type": "direct"}
                )
                await channel.exchange_delete(name)
                return True
        return False

    return asyncio.run(ask())


@pytest.fixture(scope="session")
async def broker(pytestconfig: pytest.Config) -> AsyncIterator[TestBroker]:
    """The broker of the whole run. Tests that kill or alarm one take `own_node`."""
    if url := os.environ.get(GIVEN):
        yield TestBroker(url, GIVEN)
    elif place := getattr(pytestconfig, "workerinput", {}).get("broker"):
        yield TestBroker(address_in(Path(place)), "private node", private=True)
    elif container.engine_answers():
        async with _container() as address:
            yield TestBroker(address, "container")
    elif installed() is not None:
        async with await PrivateNode.start() as node:
            yield TestBroker(node.url, "private node", private=True)
    else:
        pytest.fail(
            f"no RabbitMQ to test against: set {GIVEN}, or install one with `make setup`; a missing broker never skips",
            pytrace=False,
        )


@pytest.fixture(scope="session")
def installed_server() -> None:
    """For tests that kill, alarm or restart a node of their own: a server must be installed, whatever else is named.

    Where a named broker or a container engine makes the installation needless, they are left out, saying so.
    """
    if installed() is not None:
        return
    if GIVEN in os.environ or container.engine_answers():
        pytest.skip("needs a RabbitMQ to kill: none is installed, and the one that is used here is not ours to kill")
    pytest.fail("no RabbitMQ to test against: install one with `make setup`", pytrace=False)


@pytest.fixture(scope="session")
async def own_node(installed_server: None) -> AsyncIterator[PrivateNode]:
    """A broker that a test may kill, alarm and close connections of, without harm to the others' broker. A test leaves
    it running. One for all such tests, since a boot takes 5 s of CPU.
    """
    async with await PrivateNode.start() as node:
        yield node


@contextlib.asynccontextmanager
async def _container() -> AsyncIterator[str]:
    # not testcontainers' RabbitMqContainer: it waits with a second AMQP client, pika
    from testcontainers.core.container import DockerContainer

    running = DockerContainer(container.IMAGE).with_exposed_ports(5672)
    await asyncio.to_thread(running.start)  # may have to fetch the image
    try:
        url = f"amqp://guest:guest@{running.get_container_host_ip()}:{running.get_exposed_port(5672)}/"
        await (await open_once([url], "tests", patience=90)).close()
        yield url
    finally:
        await asyncio.to_thread(running.stop)


@pytest.fixture
async def namespace(broker: TestBroker) -> AsyncIterator[str]:
    """A namespace of this test alone; what it left on the broker is deleted afterwards."""
    name = f"test-{secrets.token_hex(4)}"
    yield name
    await delete_namespace(broker.url, name, TIERS)


class PostgresOnDemand:
    """The PostgreSQL server of the run, started by the first test that asks for it. A missing one fails that test."""

    def __init__(self) -> None:
        self._server: PrivatePostgres | None = None
        self._template: str | None = None
        self._emptied: list[str] = []

    async def server(self) -> PrivatePostgres:
        """The server, running."""
        if self._server is None:
            starting = PrivatePostgres()
            await starting.__aenter__()
            self._server = starting
        return self._server

    async def migrated(self) -> str:
        """The address of a fresh ledger: migrated once, then copied."""
        server = await self.server()
        if self._template is None:
            template = await server.new_database()
            await migrate(template)
            self._template = template.rpartition("/")[2]
        return await server.new_database(self._template)

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[str]:
        """The address of a ledger with nothing in it, for one test: copied, or emptied after another test."""
        url = self._emptied.pop() if self._emptied else await self.migrated()
        yield url
        if await emptied(url):
            self._emptied.append(url)

    async def close(self) -> None:
        """Stop and remove it."""
        if self._server is not None:
            await self._server.__aexit__(None, None, None)


@pytest.fixture(scope="session")
async def postgres_on_demand() -> AsyncIterator[PostgresOnDemand]:
    """For fixtures that need PostgreSQL only for some of their parameters."""
    on_demand = PostgresOnDemand()
    yield on_demand
    await on_demand.close()


@pytest.fixture(scope="session")
async def postgres(postgres_on_demand: PostgresOnDemand) -> PrivatePostgres:
    """The PostgreSQL server of the run; tests take a database of their own from it and leave it running. Tests that
    kill or stop one start a PrivatePostgres of their own.
    """
    return await postgres_on_demand.server()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path, postgres_on_demand: PostgresOnDemand) -> str:
    """The address of an empty database of this test alone, without tables: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return await (await postgres_on_demand.server()).new_database()


@pytest.fixture(scope="session")
async def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated ledger in a file, to be copied."""
    template = tmp_path_factory.mktemp("template") / "ledger.db"
    await migrate(f"sqlite:///{template}")
    return template


@pytest.fixture(scope="session")
def lend_ledger(sqlite_template: Path, postgres_on_demand: PostgresOnDemand) -> Lending:
    """Lends a migrated ledger with nothing in it, by the name of the dialect; a directory for one in a file."""

    @contextlib.asynccontextmanager
    async def lend(dialect: str, directory: Path) -> AsyncIterator[str]:
        if dialect == "sqlite":
            shutil.copyfile(sqlite_template, directory / "ledger.db")
            yield f"sqlite:///{directory}/ledger.db"
        else:
            async with postgres_on_demand.lent() as url:
                yield url

    return lend


@pytest.fixture(params=["sqlite", "postgresql"])
async def ledger_url(request: pytest.FixtureRequest, tmp_path: Path, lend_ledger: Lending) -> AsyncIterator[str]:
    """The address of a migrated ledger of this test alone: once SQLite, once PostgreSQL."""
    async with lend_ledger(request.param, tmp_path) as url:
        yield url


@pytest.fixture
async def database(ledger_url: str) -> AsyncIterator[Database]:
    """A migrated ledger of this test alone, open: once SQLite, once PostgreSQL."""
    opened = await Database.open(ledger_url)
    yield opened
    await opened.close()
