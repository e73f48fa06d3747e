"""A merchant whose every attempt failed for days is disabled, as the settings say.

What is meant for it is held from then on, and goes out when somebody enables it; which gives it as many days again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from notifier import logs
from notifier.ledger import failing
from notifier.ledger.database import Database
from notifier.ledger.failing import Failing, Rule

#: Seconds between two looks; and for which the database must have answered before one, so that what waited in the
#: broker meanwhile, a success perhaps, is written by then.
EVERY, CALM = 600.0, 600.0

#: Disables a merchant, unless it was changed since that moment or its address is another one. url, Unix ms, why.
Disable = Callable[[str, str, int, str], Awaitable[bool]]


class GivingUp:
    """Only for the agent that holds the lease. up_for: seconds for which the database answers. clock: Unix seconds."""

    def __init__(
        self,
        database: Database,
        disable: Disable,
        days: float,
        *,
        up_for: Callable[[], float],
        clock: Callable[[], float],
        holds: Callable[[], bool] = lambda: True,
    ) -> None:
        self._database = database
        self._disable = disable
        self._rule = Rule(days)
        self._up_for = up_for
        self._clock = clock
        self._holds = holds

    async def round(self) -> bool:
        """Disable whom the rule applies to; never asks to be called again at once. Raises DatabaseUnavailable."""
        if not self._rule.days or self._up_for() < CALM:
            return False
        now_ms = int(self._clock() * 1000)
        for one in await failing.failing(self._database, self._rule, now_ms):
            if self._holds():
                await self._disable(one.merchant, one.url, now_ms, _why(one, self._rule))
        return False


def _why(one: Failing, rule: Rule) -> str:
    days = f"{rule.days:g} day{'' if rule.days == 1 else 's'}"
    return f"nothing acknowledged for more than {days}: all {one.attempts:,} attempts since {_day(one)} failed"


def _day(one: Failing) -> str:
    return f"{logs.moment(one.since)[:16]}Z"
