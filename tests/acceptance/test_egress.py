"""The egress settings in a real service: refused where a url comes in, and at the attempt what had come in before."""

from __future__ import annotations

from typing import Any

import aio_pika

from notifier.simulator.server import Simulator
from tests.acceptance.service import environment, notifier, running


async def test_what_is_under_way_is_worked_by_the_rules_of_today_and_nothing_new_comes_in_against_them(
    broker: Any, namespace: str
) -> None:
    async with Simulator() as merchant:
        variables = environment(broker.url, namespace, NOTIFIER_LADDER="1s", NOTIFIER_EGRESS__PORTS=str(merchant.port))
        async with running(variables) as service:
            connection = await aio_pika.connect(broker.url)
            async with connection:
                channel = await connection.channel(on_return_raises=True)
                exchange = await channel.get_exchange(f"{namespace}.wait")
                for name, url in (("let", f"{merchant.url}/hook"), ("not-let", "http://127.0.0.1:9/hook")):
                    headers = {"merchant": "x/../y", "url": url}  # nor may such a merchant come in any more
                    message = aio_pika.Message(b"{}", message_id=name, headers=dict(headers))
                    await exchange.publish(message, routing_key="1s")
            delivered = await service.event("attempt", notification="let")
            refused = await service.event("attempt", notification="not-let")
            code, out, said = await notifier(
                variables, "enqueue", "--merchant", "shop", "--url", "http://127.0.0.1:9/hook", "--payload", "{}"
            )
            dotted = await notifier(variables, "enqueue", "--merchant", "x/../y", "--payload", "{}")
        assert [each.webhook_id for each in merchant.received] == ["let"]
    only = f"callbacks go to port {merchant.port} only, not 9 (NOTIFIER_EGRESS__PORTS)"
    assert (delivered["merchant"], delivered["decision"]) == ("x/../y", "complete")
    assert (refused["error"], refused["decision"]) == ("guard", "exhausted")
    assert refused["detail"] == f"the guard refused 127.0.0.1: {only}"
    assert (code, out) == (1, "")
    assert f"the url cannot be used: {only}" in said
    assert dotted[0] == 1
    assert "no HTTP path can name such a merchant" in dotted[2]
