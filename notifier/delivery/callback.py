"""What is done for a notification: the webhook, or a coroutine of the user's own."""

from __future__ import annotations

import importlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from notifier import logs
from notifier.bounded import CancelledItself, HoldingOn, bounded
from notifier.broker.connection import cancelled_by_owner
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import ErrorClass, Outcome
from notifier.errors import ConfigurationError

#: Seconds for a coroutine of the user's to end, once it is cancelled.
GRACE = 1.0


class Callback(Protocol):
    """Tells one merchant once. Never raises for anything that the merchant, the network or user code does."""

    @property
    def needs_url(self) -> bool:
        """Whether a notification without an address of its own or of its merchant has to be held."""

    async def start(self) -> None:
        """Before the first call."""

    async def close(self) -> None:
        """After the last call. Twice is fine."""

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        """One attempt. May be called again for the same notification: delivery is at-least-once."""


class UserCallback:
    """`callback = "package.module:function"`: a coroutine function `async (notification) -> Outcome`.

    What it raises is a failed attempt, and so is anything it returns that is no Outcome, and taking longer than
    `timeout` seconds. told: hears what it raised.
    """

    needs_url = False

    def __init__(self, name: str, timeout: float, told: Callable[[BaseException], None] | None = None) -> None:
        self._told = told
        self._name = name
        self._function = _found(name)
        self._timeout = timeout

    async def start(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def __call__(self, notification: Notification, merchant: Merchant) -> Outcome:
        """Run the user's coroutine, bounded in time: one that goes on against its cancellation is left behind."""
        began = time.monotonic()
        try:
            outcome = await bounded(self._judged(notification), self._timeout, GRACE)
        except TimeoutError as error:
            outcome = Outcome.failed(f"{self._name} took longer than {self._timeout:g} s", error=ErrorClass.TIMEOUT)
            if isinstance(error, HoldingOn):
                logs.event(
                    "callback.abandoned",
                    logging.WARNING,
                    notification=notification.id,
                    what=self._name,
                    seconds=self._timeout,
                    hint="it goes on against its cancellation: does it catch CancelledError?",
                )
        except CancelledItself:
            outcome = Outcome.failed(f"{self._name} cancelled itself")
        return replace(outcome, duration=time.monotonic() - began)

    async def _judged(self, notification: Notification) -> Outcome:
        """What comes of it, apart from the time; raises TimeoutError if it does."""
        try:
            outcome = await self._function(notification)
        except TimeoutError:
            raise
        except BaseException as error:
            if cancelled_by_owner(error) or isinstance(error, KeyboardInterrupt | GeneratorExit):
                raise
            if self._told is not None:
                self._told(error)
            return Outcome.failed(f"{self._name} raised {type(error).__name__}: {error}"[:500])
        if not isinstance(outcome, Outcome):
            return Outcome.failed(f"{self._name} returned {type(outcome).__name__}, not an Outcome")
        return outcome


def _found(name: str) -> Callable[[Notification], Awaitable[Outcome]]:
    module_name, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise ConfigurationError(f"callback {name!r} cannot be imported: {error}") from error
    except AttributeError:
        raise ConfigurationError(f"callback {name!r}: {module_name} has no {attribute}") from None
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object whose call is a coroutine function will do
    ):
        raise ConfigurationError(f"callback {name!r} is not a coroutine function: async (notification) -> Outcome")
    found: Callable[[Notification], Awaitable[Outcome]] = function
    return found
