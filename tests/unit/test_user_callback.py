"""`callback = "package.module:function"`: whatever a user's coroutine does, an attempt comes of it."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import pytest

from notifier import logs
from notifier.delivery import callback as module
from notifier.delivery.callback import UserCallback
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.errors import ConfigurationError

NOTIFICATION = Notification("n1", "m1", b"{}")


class OwnBaseException(BaseException):
    """Something that no `except Exception` sees."""


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's."""
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)
    return module


async def attempted(shop: ModuleType, function: Any, timeout: float = 5) -> Outcome:
    shop.tell = function  # type: ignore[attr-defined]  # a module made for the test
    return await UserCallback("shop:tell", timeout)(NOTIFICATION, Merchant("m1"))


async def test_its_outcome_is_the_attempt_s_with_the_time_it_took(shop: ModuleType) -> None:
    seen: list[Notification] = []

    async def tell(notification: Notification) -> Outcome:
        seen.append(notification)
        return Outcome.failed("try later", retry_after=3)

    outcome = await attempted(shop, tell)
    assert seen == [NOTIFICATION]
    assert (outcome.acknowledged, outcome.detail, outcome.retry_after) == (False, "try later", 3)
    assert outcome.duration > 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no such order"), "shop:tell raised ValueError: no such order"),
        (SystemExit(2), "shop:tell raised SystemExit: 2"),
        (asyncio.CancelledError(), "shop:tell raised CancelledError: "),
        (OwnBaseException("odd"), "shop:tell raised OwnBaseException: odd"),
        (ValueError("x" * 1000), "shop:tell raised ValueError: xxx"),
    ],
)
async def test_whatever_it_raises_is_a_failed_attempt(shop: ModuleType, error: BaseException, said: str) -> None:
    async def tell(_: Notification) -> Outcome:
        raise error

    outcome = await attempted(shop, tell)
    assert (outcome.acknowledged, outcome.error) == (False, ErrorClass.CALLBACK)
    assert outcome.detail.startswith(said)
    assert len(outcome.detail) <= 500


@pytest.mark.parametrize("returned", [None, True, "ok", Outcome])
async def test_anything_but_an_outcome_is_a_failed_attempt(shop: ModuleType, returned: Any) -> None:
    async def tell(_: Notification) -> Any:
        return returned

    outcome = await attempted(shop, tell)
    assert outcome.detail == f"shop:tell returned {type(returned).__name__}, not an Outcome"


async def test_taking_too_long_is_a_failed_attempt(shop: ModuleType) -> None:
    async def tell(_: Notification) -> Outcome:
        await asyncio.Event().wait()
        return Outcome.ok()

    outcome = await attempted(shop, tell, timeout=0.01)
    assert (outcome.error, outcome.detail) == (ErrorClass.TIMEOUT, "shop:tell took longer than 0.01 s")


async def test_one_that_holds_on_against_its_cancellation_is_left_behind_told_once_and_in_nobody_s_way(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(logs, "event", lambda name, _level, **fields: told.append({"name": name, **fields}))
    monkeypatch.setattr(module, "GRACE", 0.01)
    release, over = asyncio.Event(), asyncio.Event()

    async def tell(notification: Notification) -> Outcome:
        while notification is NOTIFICATION and not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        over.set()
        return Outcome.ok()

    async with asyncio.timeout(10):
        outcome = await attempted(shop, tell, timeout=0.01)
    assert (outcome.error, outcome.detail) == (ErrorClass.TIMEOUT, "shop:tell took longer than 0.01 s")
    assert [(event["name"], event["notification"]) for event in told] == [("callback.abandoned", "n1")]
    assert not over.is_set()
    other = await UserCallback("shop:tell", 5)(Notification("n2", "m1", b"{}"), Merchant("m1"))
    assert other.acknowledged
    over.clear()
    release.set()
    await over.wait()


async def test_one_that_took_too_long_may_put_its_things_in_order(
    shop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "event", lambda *_, **__: pytest.fail("it ended"))
    in_order = False

    async def tell(_: Notification) -> Outcome:
        nonlocal in_order
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            in_order = True
        return Outcome.ok()

    outcome = await attempted(shop, tell, timeout=0.01)
    assert (outcome.error, in_order) == (ErrorClass.TIMEOUT, True)


async def test_what_it_returns_although_its_time_is_over_counts(shop: ModuleType) -> None:
    """The merchant has been told: an attempt that failed would be made again."""

    async def tell(_: Notification) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Outcome.ok("told at the last moment")
        raise AssertionError

    outcome = await attempted(shop, tell, timeout=0.01)
    assert (outcome.acknowledged, outcome.detail) == (True, "told at the last moment")


async def test_one_that_cancels_itself_is_a_failed_attempt(shop: ModuleType) -> None:
    async def tell(_: Notification) -> Outcome:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)
        return Outcome.ok()

    outcome = await attempted(shop, tell)
    assert (outcome.acknowledged, outcome.detail) == (False, "shop:tell cancelled itself")


async def test_a_cancellation_by_us_stays_one(shop: ModuleType) -> None:
    running = asyncio.Event()

    async def tell(_: Notification) -> Outcome:
        running.set()
        await asyncio.Event().wait()
        return Outcome.ok()

    attempting = asyncio.create_task(attempted(shop, tell))
    await running.wait()
    attempting.cancel()
    await asyncio.wait([attempting])
    assert attempting.cancelled()


async def test_an_object_whose_call_is_a_coroutine_function_will_do(shop: ModuleType) -> None:
    class Teller:
        async def __call__(self, _: Notification) -> Outcome:
            return Outcome.ok("told")

    assert (await attempted(shop, Teller())).detail == "told"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_package.module:tell", "callback 'no_such_package.module:tell' cannot be imported"),
        ("shop:missing", "callback 'shop:missing': shop has no missing"),
        ("shop:plain", "callback 'shop:plain' is not a coroutine function: async (notification) -> Outcome"),
    ],
)
def test_a_callback_that_cannot_be_called_is_a_matter_of_configuration(shop: ModuleType, name: str, said: str) -> None:
    shop.plain = lambda _: Outcome.ok()  # type: ignore[attr-defined]  # a module made for the test
    with pytest.raises(ConfigurationError) as refused:
        UserCallback(name, 5)
    assert said in str(refused.value)
