"""The OpenAPI document: it names what there is, and its examples have the members of real answers."""

from __future__ import annotations

from typing import Any

import pytest

from notifier.api.examples import EXAMPLES
from notifier.simulator.server import Simulator
from tests.integration.api.client import Client


async def test_every_example_stands_at_an_operation_that_there_is(api: Client) -> None:
    document = (await api.get("/v1/openapi.json")).json
    operations = {(method, path) for path, of in document["paths"].items() for method in of}
    assert set(EXAMPLES) <= operations
    assert {path for _, path in operations} >= {"/v1/notifications", "/v1/stream", "/v1/pull", "/metrics", "/healthz"}


async def test_every_operation_says_what_it_is_and_how_it_fails(api: Client) -> None:
    document = (await api.get("/v1/openapi.json")).json
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


@pytest.fixture(scope="module")
async def asked(api: Client, merchants: Simulator) -> dict[tuple[str, str], Any]:
    """A real answer for each example that can be had by reading."""
    assert (
        await api.post("/v1/merchants", {"id": "document", "url": f"{merchants.url}/never", "ladder": "0s"})
    ).status == 201
    accepted = await api.accepted({"merchant": "document", "payload": {"order": 42}})
    await api.until(accepted["id"], status="exhausted")
    replayed = await api.post("/v1/replays", {"filter": {"merchant": "nobody"}})
    places = {
        "/v1/notifications/{id}": f"/v1/notifications/{accepted['id']}",
        "/v1/notifications": "/v1/notifications?merchant=document",
        "/v1/undelivered": "/v1/undelivered?merchant=document",
        "/v1/replays/{replay}": replayed.headers["Location"],
        "/v1/merchants/{merchant}": "/v1/merchants/document",
        "/v1/pull": "/v1/pull?merchant=document",
    }
    assert (await api.post("/v1/tokens", {"role": "read"})).status == 201
    return {
        (method, path): (await api.get(places.get(path, path))).json for method, path in EXAMPLES if method == "get"
    }


@pytest.mark.parametrize("path", [path for method, path in EXAMPLES if method == "get"])
async def test_an_example_has_the_members_of_the_real_answer(asked: dict[tuple[str, str], Any], path: str) -> None:
    assert members(EXAMPLES["get", path]) == members(asked["get", path])


def members(value: Any) -> Any:
    """Names at every depth; of a list, those of its first element. What maps names of others is left out."""
    if isinstance(value, dict):
        return {
            name: members(of) for name, of in value.items() if name not in ("sent_headers", "totals", "filter", "slots")
        }
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [members(value[0])]
    return None
