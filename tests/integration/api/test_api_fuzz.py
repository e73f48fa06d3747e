"""The API against what its own OpenAPI document says can be sent to it, and what cannot: never a fault of ours."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from notifier.broker.cleanup import delete_namespace
from tests.acceptance.service import clean_environment, environment, running
from tests.conftest import TIERS, TestBroker
from tests.integration.api.client import TOKEN, Client

#: Seconds that requests are made up for in `make test-long`.
SECONDS = int(os.environ.get("FUZZ_SECONDS", "15"))
#: Not whether other methods are refused: a merchant's id may hold slashes, so `shop-7/block` is one as well.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)


@pytest.fixture
async def fuzzed(broker: TestBroker) -> AsyncIterator[Client]:
    """A whole service of its own: what comes of being asked anything is nothing for other tests."""
    namespace = f"test-{secrets.token_hex(4)}"
    variables = environment(broker.url, namespace, NOTIFIER_API__TOKEN=TOKEN, NOTIFIER_LADDER="0s,1s")
    async with running(variables, whole=True) as service, Client(service, variables) as client:
        yield client
    await delete_namespace(broker.url, namespace, TIERS)


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize(
    ("bound", "least"),
    [
        pytest.param(("--phases", "fuzzing", "--max-examples", "3"), 60, id="few of each"),
        pytest.param(("--max-time", str(SECONDS)), 300, id="for a while", marks=pytest.mark.long),
    ],
)
async def test_no_request_that_can_be_made_up_is_a_fault_of_ours(
    fuzzed: Client, tmp_path: Path, bound: tuple[str, ...], least: int
) -> None:
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{fuzzed.url}/v1/openapi.json",
        *("--header", f"Authorization: Bearer {TOKEN}"),
        *("--checks", ",".join(CHECKS)),
        *("--exclude-path", "/v1/stream"),  # it has no end
        *bound,
        *("--request-timeout", "20"),
        *("--seed", "20261121"),
        "--generation-database=:memory:",
        "--no-color",
        "--warnings=off",
        cwd=tmp_path,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    said = out.decode()
    assert process.returncode == 0, said
    failed = [event for event in fuzzed.service.events if event["event"] == "request.failed"]
    assert failed == []
    assert (await fuzzed.get("/readyz")).status == 200
    for asked in range(100):  # a heartbeat tells how many they were, every few seconds
        requests = await _requests(fuzzed) - asked  # and these
        if requests > least:
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"{requests} requests only: {said}")


async def _requests(client: Client) -> int:
    slots = (await client.get("/v1/processes")).json["slots"]
    return int(next(slot["statistics"]["requests"] for slot in slots if slot["slot"] == "api"))
