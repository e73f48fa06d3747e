"""RabbitMQ in a container, with a `docker` played by a script: checks what is asked of it without an engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifier.broker import container
from notifier.errors import BrokerError

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory first on PATH; what the played `docker` was asked stands in its file `asked`."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def play(docker: Path, script: str) -> None:
    program = docker / "docker"
    program.write_text(f'#!/bin/sh\necho "$@" >> {docker}/asked\n{script}\n')
    program.chmod(0o755)


def test_no_client_means_no_engine(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(docker))
    assert not container.engine_answers()


def test_a_client_whose_engine_is_down_means_no_engine(docker: Path) -> None:
    play(docker, "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    assert not container.engine_answers()


def test_a_client_that_hangs_means_no_engine(docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "_PROBE_TIMEOUT", 0.2)
    play(docker, "exec sleep 30")
    assert not container.engine_answers()


def test_an_engine_that_names_its_version_answers(docker: Path) -> None:
    play(docker, "echo 28.2.2")
    assert container.engine_answers()


async def test_what_the_engine_says_when_it_fails_is_told(docker: Path) -> None:
    play(docker, "echo 'no such image' >&2; exit 125")
    with pytest.raises(BrokerError, match="docker run failed: no such image"):
        async with container.running():
            pass


async def test_a_container_is_published_on_loopback_and_removed_even_if_it_never_boots(
    docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_BOOT_TIMEOUT", 0.2)
    play(docker, 'case "$1" in run) echo 0123456789abcdef;; port) echo 127.0.0.1:9;; esac')
    with pytest.raises(BrokerError, match="could not be reached"):
        async with container.running():
            pass
    asked = (docker / "asked").read_text().splitlines()
    assert asked == [
        f"run --detach --rm --publish 127.0.0.1::5672 {container.IMAGE}",
        "port 0123456789abcdef 5672/tcp",
        "rm --force --volumes 0123456789abcdef",
    ]
