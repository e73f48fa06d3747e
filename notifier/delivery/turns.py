"""Whose turn it is to be called back: at most so many at once; the others wait, unstarted, in the order they came."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """most: callbacks at once in this process; None for no bound of its own, since the prefetch is one."""

    def __init__(self) -> None:
        self._most: int | None = None
        self._taken = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def most(self) -> int | None:
        """The bound."""
        return self._most

    def limit(self, most: int | None) -> None:
        """Another bound from now on. What runs beyond a lower one finishes."""
        self._most = most
        self._let_in()

    async def mine(self) -> bool:
        """Wait for a turn, to be ended with `over`; False for those sent away meanwhile, who have none."""
        if not self._waiting and self._has_room():
            self._taken += 1
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.over()  # it had come in the moment of the cancellation
            raise

    def over(self) -> None:
        """A turn is over; the next one comes."""
        self._taken -= 1
        self._let_in()

    def send_away(self) -> None:
        """Nobody who waits gets a turn."""
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(False)

    def _has_room(self) -> bool:
        return self._most is None or self._taken < self._most

    def _let_in(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                self._taken += 1
                turn.set_result(True)
