"""The one test that takes a minute of waiting runs beside the others: started first, looked at last.

With several workers (pytest-xdist) one of them begins with it instead, while the others do the rest.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.service import NOTIFIER, SECRET, clean_environment

_LADDER_RUN = pytest.StashKey["LadderRun"]()
_ITS_TEST = "test_the_default_ladder_at_real_speed_agrees_with_an_independent_receiver"


@dataclass
class LadderRun:
    """`notifier dev --once --json` on the default ladder, with a receiver that is a process of its own."""

    receiver: subprocess.Popen[str]
    dev: subprocess.Popen[str]

    @classmethod
    def started(cls) -> LadderRun:
        script = Path(__file__).with_name("independent_receiver.py")
        receiver = subprocess.Popen([sys.executable, str(script), SECRET], stdout=subprocess.PIPE, text=True)
        assert receiver.stdout is not None
        port = int(receiver.stdout.readline())
        dev = subprocess.Popen(
            [NOTIFIER, "dev", "--once", "--json", "--receiver", f"http://127.0.0.1:{port}"],
            env=clean_environment(NOTIFIER_SIGNING_SECRET=SECRET),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return cls(receiver, dev)

    def ended(self) -> tuple[int, str, str, list[str]]:
        """Exit code, stdout and stderr of dev, and the receiver's lines; waits for both."""
        out, err = self.dev.communicate(timeout=240)
        self.receiver.terminate()
        seen, _ = self.receiver.communicate(timeout=10)
        return self.dev.returncode, out, err, seen.splitlines()

    def stop(self) -> None:
        """End what still runs, by its process id; what dev started ends with it."""
        for process in (self.dev, self.receiver):
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Its test last; workers get it dealt as the longest of all."""
    items.sort(key=lambda item: item.name == _ITS_TEST)


def pytest_runtestloop(session: pytest.Session) -> None:
    """Started before the first test, if it is among the chosen ones."""
    wanted = any(item.name == _ITS_TEST for item in session.items) and not session.config.option.collectonly
    if wanted and not _is_worker(session.config):
        session.config.stash[_LADDER_RUN] = LadderRun.started()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Gone in any case."""
    if run := session.config.stash.get(_LADDER_RUN, None):
        run.stop()


@pytest.fixture
def ladder_run(pytestconfig: pytest.Config) -> LadderRun:
    """The run that was started before the first test, or is started now."""
    if _LADDER_RUN not in pytestconfig.stash:
        pytestconfig.stash[_LADDER_RUN] = LadderRun.started()
    return pytestconfig.stash[_LADDER_RUN]


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
