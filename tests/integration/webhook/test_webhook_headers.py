"""A merchant's own headers: they arrive, beside ours, and their values are told to nobody else."""

from __future__ import annotations

import pytest
from raw_merchant import a_merchant, a_notification, a_webhook

from notifier.domain.merchant import MASKED
from notifier.simulator import Simulator

OWN = (("Authorization", "Bearer hunter2"), ("X-Shop", "7"), ("Accept", "text/plain"))


async def test_a_merchants_own_headers_arrive_beside_ours_and_are_told_without_their_values() -> None:
    async with Simulator() as simulator, a_webhook() as webhook:
        outcome = await webhook(a_notification(simulator.url), a_merchant(headers=OWN))
        [received] = simulator.received
    own = {name: received.headers[name] for name in ("authorization", "x-shop", "accept")}
    assert own == {"authorization": "Bearer hunter2", "x-shop": "7", "accept": "text/plain"}
    assert received.headers["webhook-id"] == "ntf_1"
    told = dict(outcome.sent_headers)
    assert [told[name] for name, _ in OWN] == [MASKED] * 3
    assert told["webhook-id"] == "ntf_1"
    assert "hunter2" not in repr(outcome)


@pytest.mark.parametrize("name", ["webhook-id", "Webhook-ID"])
async def test_what_was_kept_before_a_name_was_reserved_does_not_replace_ours(name: str) -> None:
    async with Simulator() as simulator, a_webhook() as webhook:
        await webhook(a_notification(simulator.url), a_merchant(headers=((name, "forged"),)))
        [received] = simulator.received
    assert received.headers["webhook-id"] == "ntf_1"
