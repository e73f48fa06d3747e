"""Names whose answers change, or hide an internal address among others: what is dialled is what was judged."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest
from raw_merchant import Names, a_merchant, a_notification, a_webhook

from notifier.domain.outcome import ErrorClass
from notifier.simulator import Simulator
from notifier.webhook import connector
from notifier.webhook.names import MOST_ADDRESSES, MOST_JUDGED, GuardedNames
from tests.serving import served

REFUSED = "the guard refused {} ({}), which is where rebound.test leads: allow it with NOTIFIER_EGRESS__ALLOW"


class Rebinding(Names):
    """Answers each lookup of a name with the next of its answers; the last one stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        super().__init__({})
        self._answers = list(answers)

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_UNSPEC) -> Any:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return await Names({host: answer}).resolve(host, port, family)


@pytest.fixture
def no_name_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new connection looks its name up again, as if the time of keeping were over; none is kept alive either."""
    monkeypatch.setattr(connector, "NAMES_KEPT", -1)
    monkeypatch.setattr(connector, "IDLE", 0)


@pytest.mark.usefixtures("no_name_is_kept")
@pytest.mark.parametrize(
    ("address", "name"), [("10.0.0.1", "private"), ("169.254.169.254", "cloud metadata"), ("::1", "loopback")]
)
async def test_a_name_that_leads_inside_from_its_second_lookup_on_is_refused_then(
    opened: list[int], address: str, name: str
) -> None:
    names = Rebinding(["127.0.0.1"], [address], ["127.0.0.1"])
    async with Simulator() as simulator, a_webhook(allow="127.0.0.0/8", resolver=names) as webhook:
        url = f"http://rebound.test:{simulator.port}/"
        first = await webhook(a_notification(url), a_merchant())
        second = await webhook(a_notification(url), a_merchant())
        third = await webhook(a_notification(url), a_merchant())
        assert (second.error, second.detail) == (ErrorClass.GUARD, REFUSED.format(address, name))
        assert second.address is None
        assert (first.acknowledged, third.acknowledged) == (True, True)
        assert len(simulator.received) == 2
    assert (len(opened), len(names.asked)) == (2, 3)


async def test_an_answer_that_changes_is_not_looked_at_between_judging_and_dialling(opened: list[int]) -> None:
    """Each attempt asks once and dials what that answer said; a second question would be the hole of rebinding."""
    names = Rebinding(["127.0.0.1"], ["10.0.0.1"])
    async with Simulator() as simulator, a_webhook(allow="127.0.0.0/8", resolver=names) as webhook:
        for _ in range(3):
            outcome = await webhook(a_notification(f"http://rebound.test:{simulator.port}/"), a_merchant())
            assert outcome.address == f"127.0.0.1:{simulator.port}"
    assert names.asked == ["rebound.test"]
    assert opened == [socket.AF_INET]


@pytest.mark.usefixtures("no_socket_is_made")
@pytest.mark.parametrize("address", ["10.0.0.1", "::ffff:127.0.0.1", "fe80::1%1", "64:ff9b::a9fe:a9fe", "rebound.test"])
async def test_an_address_that_slipped_past_the_names_is_refused_at_the_socket(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    async def unguarded(self: GuardedNames, *asked: Any, **named: Any) -> Any:
        return await self._names.resolve(*asked, **named)

    monkeypatch.setattr(GuardedNames, "resolve", unguarded)
    async with a_webhook(allow="", resolver=Names({"rebound.test": [address]})) as webhook:
        outcome = await webhook(a_notification("http://rebound.test/"), a_merchant())
    assert outcome.error is ErrorClass.GUARD
    assert outcome.detail.startswith(f"the guard refused {address} (")


INSIDE = [f"10.{n // 65_536}.{n // 256 % 256}.{n % 256}" for n in range(20_000)]


@pytest.mark.parametrize("place", [0, 3, MOST_ADDRESSES, MOST_JUDGED - 1])
async def test_of_many_addresses_the_one_that_may_be_dialled_is(opened: list[int], place: int) -> None:
    names = Names({"rebound.test": [*INSIDE[:place], "127.0.0.1", *INSIDE[place:]]})
    async with Simulator() as simulator, a_webhook(allow="127.0.0.0/8", resolver=names) as webhook:
        outcome = await webhook(a_notification(f"http://rebound.test:{simulator.port}/"), a_merchant())
        assert outcome.address == f"127.0.0.1:{simulator.port}"
    assert opened == [socket.AF_INET]


async def test_of_many_addresses_the_one_inside_is_never_dialled(opened: list[int]) -> None:
    outside = [f"127.0.0.{n + 2}" for n in range(MOST_ADDRESSES - 1)]  # nobody listens there
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        names = Names({"rebound.test": [*outside[:3], "::1", *outside[3:]]})
        async with a_webhook(allow="127.0.0.0/8", resolver=names) as webhook:
            outcome = await webhook(a_notification(f"http://rebound.test:{port}/"), a_merchant())
    assert outcome.error is ErrorClass.CONNECT
    assert socket.AF_INET6 not in opened
    assert len(opened) >= len(outside)


@pytest.mark.usefixtures("no_socket_is_made")
async def test_a_name_with_thousands_of_refused_addresses_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    async with a_webhook(allow="", resolver=Names({"rebound.test": INSIDE})) as webhook:
        guard = webhook._guard
        refusal = guard.refusal
        monkeypatch.setattr(guard, "refusal", lambda host: judged.append(host) or refusal(host))  # type: ignore[func-returns-value]  # append
        began = time.process_time()
        outcome = await webhook(a_notification("http://rebound.test/"), a_merchant())
        assert outcome.error is ErrorClass.GUARD
        assert time.process_time() - began < 1
    assert len(judged) <= MOST_JUDGED + 1  # one more for the words


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://169.254.169.254/latest/", "http://127.0.0.1:1/", "//[::1]/", "file:///etc/passwd", "/again"]
)
async def test_a_redirect_leads_nowhere(opened: list[int], status: int, location: str) -> None:
    hosts: list[str] = []

    async def answer(request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        hosts.append(str(request.url))
        return aiohttp.web.Response(status=status, headers={"Location": location, "Refresh": f"0; url={location}"})

    async with served(answer) as url, a_webhook() as webhook:
        outcome = await webhook(a_notification(f"{url}/"), a_merchant())
    assert (outcome.error, outcome.status) == (ErrorClass.STATUS, status)
    assert (len(hosts), len(opened)) == (1, 1)
    assert location not in outcome.detail
