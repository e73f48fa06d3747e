"""`notifier ladder`: timetables and names."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifier import cli
from notifier.cli.ladder import timetable
from notifier.domain.ladder import Ladder
from notifier.domain.tier import Tier


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("NOTIFIER_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: str) -> str:
        assert cli.execute(["ladder", *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return call


def test_without_an_argument_it_is_the_default_ladder(printed: Any) -> None:
    assert printed() == (
        "ATTEMPT  TIER  AFTER\n"
        "1        1s    1s\n"
        "2        3s    4s\n"
        "3        5s    9s\n"
        "4        15s   24s\n"
        "5        30s   54s\n"
    )


def test_the_default_is_the_effective_one(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_LADDER", "night")
    Path("notifier.toml").write_text("[ladders]\nnight = '90s,0s'\n")
    assert printed() == "ATTEMPT  TIER   AFTER\n1        1m30s  1m30s\n2        0s     1m30s\n"
    assert printed("night") == printed()


@pytest.mark.parametrize(
    ("start", "first", "last"),
    [
        ("2026-11-21T09:00:00Z", "2026-11-21T09:00:01Z", "2026-11-21T09:00:54Z"),
        ("2026-11-21T10:00:00+01:00", "2026-11-21T09:00:01Z", "2026-11-21T09:00:54Z"),
        ("2026-11-21T09:00:00", "2026-11-21T09:00:01Z", "2026-11-21T09:00:54Z"),
        ("2026-12-31T23:59:30", "2026-12-31T23:59:31Z", "2027-01-01T00:00:24Z"),
        ("2026-11-21", "2026-11-21T00:00:01Z", "2026-11-21T00:00:54Z"),
        ("20261121T090000Z", "2026-11-21T09:00:01Z", "2026-11-21T09:00:54Z"),
    ],
)
def test_moments_are_told_in_utc(printed: Any, start: str, first: str, last: str) -> None:
    head, *rows = printed("--from", start).splitlines()
    assert head.split() == ["ATTEMPT", "TIER", "AFTER", "AT"]
    assert rows[0].split()[-1] == first
    assert rows[-1].split()[-1] == last


def test_from_now_starts_now(printed: Any) -> None:
    before = datetime.now(UTC)
    at = datetime.fromisoformat(json.loads(printed("10s", "--from", "now", "--json"))["attempts"][0]["at"])
    after = datetime.now(UTC)
    assert before + timedelta(seconds=9) <= at <= after + timedelta(seconds=10)


def test_json_gives_numbers(printed: Any) -> None:
    assert json.loads(printed("1s,90s", "--from", "2026-11-21T09:00:00Z", "--json")) == {
        "ladder": "1s,1m30s",
        "total_seconds": 91,
        "unserved_tiers": ["1m30s"],
        "attempts": [
            {"attempt": 1, "tier": "1s", "after_seconds": 1, "at": "2026-11-21T09:00:01Z"},
            {"attempt": 2, "tier": "1m30s", "after_seconds": 91, "at": "2026-11-21T09:01:31Z"},
        ],
    }
    assert "at" not in json.loads(printed("1s", "--json"))["attempts"][0]


def test_wechats_ladder_takes_24_hours_and_4_minutes(printed: Any) -> None:
    assert re.search(r"^15 +6h +1d4m$", printed("wechat"), re.MULTILINE)


def test_a_ladder_that_nobody_serves_says_so_and_what_to_write(printed: Any) -> None:
    said = printed("7s,1s,9s")
    assert "no process serves 7s, 9s:" in said
    assert said.endswith('\n  [ladders]\n  mine = "7s,1s,9s"\n')
    Path("notifier.toml").write_text(said[said.index("[ladders]") :])
    assert "no process serves" not in printed("mine")


def test_the_names_are_listed_with_the_default_marked(printed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_LADDERS__NIGHT", "1h,2h")
    monkeypatch.setenv("NOTIFIER_LADDER", "night")
    rows = printed("--list").splitlines()
    assert [row.split()[0] for row in rows[1:6]] == ["default", "wechat", "alipay", "standard-webhooks", "night"]
    assert re.split(r"  +", rows[5]) == ["night *", "3h", "1h,2h"]
    listed = json.loads(printed("--list", "--json"))
    assert listed[-1] == {"name": "night", "ladder": "1h,2h", "total_seconds": 10_800, "default": True}
    assert [one["name"] for one in listed if one["default"]] == ["night"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nope",), 1, "notifier: tier 1 of ladder 'nope'"),
        (("1s,2x",), 1, "notifier: tier 2 of ladder '1s,2x'"),
        (("1s,50d",), 1, "longest possible tier, 49d"),
        (("--from", "tomorrow"), 2, "'tomorrow' is not a time such as 2026-11-21T09:00:00Z, or now"),
        (("--from", "9999-12-31"), 2, "is not a time such as"),
        (("--from", "0001-01-01T00:00:00+05:00"), 2, "is not a time such as"),
        (("--list", "wechat"), 2, "leave out LADDER and --from"),
        (("--list", "--from", "now"), 2, "leave out LADDER and --from"),
    ],
)
def test_bad_arguments_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert cli.execute(["ladder", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


moments = st.integers(0, 2**34).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(st.lists(st.integers(0, 49 * 86_400), min_size=1, max_size=64), moments)
def test_each_attempt_comes_its_tier_after_the_one_before(delays: list[int], start: datetime) -> None:
    rungs = list(timetable(Ladder(tuple(map(Tier, delays))), start))
    assert [rung.tier.seconds for rung in rungs] == delays
    assert [rung.attempt for rung in rungs] == list(range(1, len(delays) + 1))
    before, moment = 0, start
    for rung in rungs:
        assert rung.after - before == rung.tier.seconds
        assert rung.at is not None
        assert rung.at - moment == timedelta(seconds=rung.tier.seconds)
        before, moment = rung.after, rung.at
