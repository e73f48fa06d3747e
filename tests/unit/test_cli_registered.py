"""What a producer knows of merchants from this machine's copy of the registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifier.cli import registered
from notifier.cli.registered import Registered
from notifier.domain.ladder import Ladder
from notifier.domain.registration import Registration
from notifier.registry import form
from notifier.registry.replica import FILE, Kept, ReplicaWriter, Stand
from notifier.settings import Settings


def keep(directory: Path, version: int, registration: Registration) -> None:
    """Write it into the copy, as the agent does."""
    writer = ReplicaWriter(directory / FILE)
    writer.open()
    kept = Kept(registration.id, version, form.written(registration), 0)
    writer.apply([kept], [], Stand("here", version, 0, 0))
    writer.close()


def known(directory: Path) -> Registered:
    return Registered(Settings.model_validate({"state_dir": str(directory)}))


def test_where_no_service_runs_nothing_is_known(tmp_path: Path) -> None:
    nobody = known(tmp_path)
    assert nobody.ladder("shop") is None
    assert not nobody.has_url("shop")


def test_a_merchants_own_ladder_and_url_are_known(tmp_path: Path) -> None:
    keep(tmp_path, 1, Registration("shop", url="https://shop.example/", ladder=Ladder.parse("1s,3s")))
    here = known(tmp_path)
    assert here.ladder("shop") == "1s,3s"
    assert here.has_url("shop")
    assert here.ladder("other") is None
    assert not here.has_url("other")
    assert here.ladder("\udcff") is None, "no text: refused elsewhere"


def test_a_command_that_runs_for_long_hears_of_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(tmp_path, 1, Registration("shop"))
    here = known(tmp_path)
    assert not here.has_url("shop")
    keep(tmp_path, 2, Registration("shop", url="https://shop.example/"))
    assert not here.has_url("shop"), "remembered for a while"
    monkeypatch.setattr(registered, "FRESH", 0)
    assert here.has_url("shop")
