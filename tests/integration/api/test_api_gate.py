"""Who is let in: tokens, roles, sessions, hosts, sites, sizes; and what every answer carries."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from notifier.broker.cleanup import delete_namespace
from tests.acceptance.service import environment, notifier, running
from tests.conftest import TIERS, TestBroker
from tests.integration.api.client import TOKEN, Client

ONE = {"merchant": "shop-7", "payload": 1}


@pytest.fixture(scope="module")
async def loopback(broker: TestBroker) -> AsyncIterator[Client]:
    """A service without a token, on 127.0.0.1; a small body limit."""
    namespace = f"test-{secrets.token_hex(4)}"
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s", NOTIFIER_API__BODY_LIMIT="2000")
    async with running(variables, "--no-agent", whole=True) as service, Client(service, variables, None) as client:
        yield client
    await delete_namespace(broker.url, namespace, TIERS)


async def made(api: Client, **wanted: Any) -> dict[str, str]:
    """The header of a new token."""
    answer = await api.post("/v1/tokens", wanted)
    assert answer.status == 201, answer
    return {"Authorization": f"Bearer {answer.json['token']}"}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer wrong-token-0123456789", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN]
)
async def test_without_a_valid_token_nobody_is_let_in(api: Client, header: str) -> None:
    answer = await api.get("/v1/tiers", headers={"Authorization": header})
    assert (answer.status, answer.headers["WWW-Authenticate"][:6]) == (401, "Bearer")
    assert answer.problem


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_a_probe_needs_no_token(api: Client, path: str) -> None:
    assert (await api.get(path, headers={"Authorization": ""})).status == 200


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/metrics"), ("GET", "/v1/openapi.json"), ("GET", "/nowhere"), ("POST", "/healthz/x")]
)
async def test_everything_else_needs_one(api: Client, method: str, path: str) -> None:
    assert (await api.ask(method, path, headers={"Authorization": ""})).status == 401


async def test_a_token_that_may_read_may_not_change_anything(api: Client) -> None:
    reads = await made(api, role="read")
    assert (await api.get("/v1/notifications", headers=reads)).status == 200
    answer = await api.post("/v1/notifications", ONE, headers=reads)
    assert (answer.status, answer.problem) == (403, "this token may only read")


async def test_a_removed_token_is_worthless_and_a_listed_one_is_not_shown(api: Client) -> None:
    answer = await api.post("/v1/tokens", {"role": "write", "note": "short-lived"})
    listed = (await api.get("/v1/tokens")).json["tokens"]
    assert answer.json["token"] not in str(listed)
    assert {"id": answer.json["id"], "role": "write", "merchant": None, "note": "short-lived"}.items() <= listed[
        -1
    ].items()
    assert (await api.ask("DELETE", f"/v1/tokens/{answer.json['id']}")).status == 200
    used = {"Authorization": f"Bearer {answer.json['token']}"}
    assert (await api.get("/v1/tiers", headers=used)).status == 401


@pytest.mark.parametrize("path", ["/v1/notifications", "/v1/merchants", "/v1/tokens", "/metrics", "/"])
async def test_a_merchants_token_is_for_pulling_alone(api: Client, path: str) -> None:
    own = await made(api, role="merchant", merchant="shop-7")
    assert (await api.get(path, headers=own)).status == 403
    assert (await api.get("/v1/pull", headers=own)).status == 200


async def test_a_session_is_opened_with_a_token_and_ends_with_it(api: Client) -> None:
    answer = await api.post("/v1/tokens", {"role": "write"})
    form = {"token": answer.json["token"], "next": "/merchants"}
    opened = await api.ask(
        "POST", "/session", data=form, headers={"Authorization": "", "Sec-Fetch-Site": "same-origin"}
    )
    assert (opened.status, opened.headers["Location"]) == (303, "/merchants")
    cookie = opened.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert answer.json["token"] not in cookie
    session = {"Cookie": cookie.split(";")[0], "Authorization": ""}
    assert (await api.get("/v1/tiers", headers=session)).status == 200
    assert (await api.ask("DELETE", f"/v1/tokens/{answer.json['id']}")).status == 200


@pytest.mark.parametrize(
    "cookie", ["notifier_session=x", "notifier_session=settings.99999999999." + "0" * 64, "notifier_session=;;=", '"=']
)
async def test_a_made_up_session_lets_nobody_in(api: Client, cookie: str) -> None:
    assert (await api.get("/v1/tiers", headers={"Cookie": cookie, "Authorization": ""})).status == 401


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "", "evil"])
async def test_a_session_leads_nowhere_else(api: Client, target: str) -> None:
    opened = await api.ask("POST", "/session", data={"token": TOKEN, "next": target}, headers={"Authorization": ""})
    assert (opened.status, opened.headers["Location"]) == (303, "/")


async def test_a_wrong_token_opens_no_session(api: Client) -> None:
    by_form = await api.ask("POST", "/session", data={"token": "wrong"}, headers={"Authorization": ""})
    assert (by_form.status, by_form.headers["Location"][:15]) == (303, "/login?failed=1")
    by_script = await api.post("/session", {"token": "wrong"}, headers={"Authorization": ""})
    assert (by_script.status, "Set-Cookie" in by_script.headers) == (401, False)


async def test_a_person_without_a_session_is_shown_the_way_in(api: Client) -> None:
    answer = await api.get("/tiers?x=1", headers={"Authorization": "", "Accept": "text/html"})
    assert (answer.status, answer.headers["Location"]) == (303, "/login?next=/tiers%3Fx%3D1")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({}, 202),
    ],
)
async def test_a_page_of_another_site_changes_nothing(loopback: Client, headers: dict[str, str], status: int) -> None:
    assert (await loopback.post("/v1/notifications", ONE, headers=headers)).status == status


async def test_a_page_of_ones_own_may(loopback: Client) -> None:
    assert (await loopback.post("/v1/notifications", ONE, headers={"Origin": loopback.url})).status == 202


async def test_a_session_cookie_alone_is_not_enough_to_change_something(api: Client) -> None:
    opened = await api.post("/session", {"token": TOKEN}, headers={"Authorization": ""})
    session = {"Cookie": opened.headers["Set-Cookie"].split(";")[0], "Authorization": ""}
    assert (await api.post("/v1/notifications", ONE, headers=session)).status == 403
    same = {**session, "Sec-Fetch-Site": "same-origin"}
    assert (await api.post("/v1/notifications", ONE, headers=same)).status == 202


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("localhost:8680", 200), ("127.0.0.1", 200), ("127.8.8.8:1", 200), ("[::1]:8680", 200),
        ("evil.example", 403), ("localhost.evil.example", 403), ("192.168.1.4", 403), ("127.0.0.1.nip.io", 403),
        ("[", 403),
    ],
)  # fmt: skip
async def test_without_a_token_only_names_of_the_loopback_are_answered(
    loopback: Client, host: str, status: int
) -> None:
    assert (await loopback.get("/v1/openapi.json", headers={"Host": host})).status == status


async def test_a_body_that_is_too_large_is_refused_stated_or_not(loopback: Client) -> None:
    stated = await loopback.post("/v1/notifications", {**ONE, "payload": "x" * 2000})
    assert (stated.status, "2,000 bytes" in stated.problem) == (413, True)

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b"x" * 100

    json = {"Content-Type": "application/json"}
    unstated = await loopback.ask("POST", "/v1/notifications", data=chunks(), headers=json)
    assert (unstated.status, "2,000 bytes" in unstated.problem) == (413, True)


@pytest.mark.parametrize("path", ["/v1/tiers", "/healthz", "/nowhere", "/static/nothing"])
async def test_every_answer_forbids_what_a_page_of_others_could_do_with_it(api: Client, path: str) -> None:
    headers = (await api.get(path)).headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    assert "Access-Control-Allow-Origin" not in headers
    assert "server" not in {name.lower() for name in headers}


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("PUT", "/v1/tiers", 405), ("GET", "/v1/replays/x", 404)]
)
async def test_what_is_not_there_is_a_problem_too(api: Client, method: str, path: str, status: int) -> None:
    answer = await api.ask(method, path)
    assert (answer.status, bool(answer.problem)) == (status, True)


async def test_a_method_that_is_not_possible_is_answered_with_those_that_are(api: Client) -> None:
    for path, methods in (("/v1/notifications", "GET, POST"), ("/v1/merchants/shop-7", "DELETE, GET, PATCH")):
        answer = await api.ask("PUT", path)
        assert (answer.status, answer.headers["Allow"]) == (405, methods)


async def test_without_an_agent_what_only_it_can_do_is_refused_with_a_sentence(loopback: Client) -> None:
    answer = await loopback.post("/v1/merchants/shop-7/block", {"reason": "test"})
    assert (answer.status, "no agent" in answer.problem) == (503, True)
    assert answer.headers["Retry-After"] == "5"


async def test_a_preflight_of_another_site_is_allowed_nothing(loopback: Client) -> None:
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    answer = await loopback.ask("OPTIONS", "/v1/notifications", headers=asked)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"NOTIFIER_API__HOST": "0.0.0.0"}, "set NOTIFIER_API__TOKEN"),
        ({"NOTIFIER_API__HOST": "192.0.2.1", "NOTIFIER_API__TOKEN": TOKEN}, "no such address"),
        ({"NOTIFIER_API__HOST": "no.such.host.invalid"}, "no address of this machine"),
    ],
)
async def test_an_address_that_cannot_be_listened_on_ends_the_service_with_a_sentence(
    broker: TestBroker, namespace: str, settings: dict[str, str], said: str
) -> None:
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s", **settings)
    code, _, err = await notifier(variables, "run", "--no-agent")
    assert (code, said in err) == (78, True), err


async def test_a_port_that_is_taken_ends_the_service_with_a_sentence(
    broker: TestBroker, namespace: str, loopback: Client
) -> None:
    port = loopback.url.rpartition(":")[2]
    variables = environment(broker.url, namespace, NOTIFIER_LADDER="0s", NOTIFIER_API__PORT=port)
    code, _, err = await notifier(variables, "run", "--no-agent")
    assert (code, "another program does already" in err, "NOTIFIER_API__PORT" in err) == (78, True, True), err


async def test_a_request_that_breaks_off_harms_nobody(loopback: Client) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.post(
                f"{loopback.url}/v1/notifications", data=broken(), headers={"Content-Type": "application/json"}
            ):
                pass
    assert (await loopback.get("/healthz")).status == 200


async def broken() -> AsyncIterator[bytes]:
    yield b'{"merchant":'
    raise aiohttp.ClientError("the client is gone")
