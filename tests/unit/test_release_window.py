"""The window of a merchant whose releases come back: it finds out what there is room for, at little cost."""

from __future__ import annotations

from collections import deque

import pytest

from notifier.agent.window import FIRST_PAUSE, LONGEST_PAUSE, PART, SETTLED, Window
from notifier.ledger.holding import FIRST_REST, OnTheWay

MOST = 20
#: Seconds between two rounds of the release, and until a round knows what has come back.
ROUND, LATENCY = 0.1, 0.3


class Merchant:
    """One with a queue of held notifications, and tier processes that have room for some of them, each for so long."""

    def __init__(self, room: int, takes: float, *, direct: int = 0, hints: bool = True) -> None:
        self.now = 0.0
        self.window = Window(MOST, self.now)
        self.gone = self.bounced = self.attempted = self.most = 0
        self._room, self._takes, self._hints = room, takes, hints
        self._direct = [(takes, False)] * direct  # when each ends, and whether it was a release
        self._running: list[tuple[float, bool]] = list(self._direct)
        self._under_way: deque[float] = deque()  # when they were released that found no room
        self._back: list[float] = []  # of those that came back

    def round(self) -> None:
        """Time goes on, and what may go goes."""
        self.now += ROUND
        for ended in [each for each in self._running if each[0] <= self.now]:
            self._running.remove(ended)
            self.attempted += ended[1]
            if self._hints:
                self.window.ended(acknowledged=True, released=ended[1])
        while self._under_way and self._under_way[0] + LATENCY <= self.now:
            self._back.append(self._under_way.popleft())
        self._back = [at for at in self._back if at + FIRST_REST / 1000 > self.now]
        released = sum(release for _, release in self._running)
        back = int(max(self._back) * 1000) if self._back else None
        way = OnTheWay(released + len(self._under_way), back)
        self.window.look(way, MOST, self.now)
        room = self.window.room(way, self.now)
        for _ in range(room):
            self.gone += 1
            if len(self._running) < self._room:
                self._running.append((self.now + self._takes, True))
            else:
                self.bounced += 1
                self._under_way.append(self.now)
        if room:
            self.window.gone(OnTheWay(way.there + room, way.back), self.now)
        self.most = max(self.most, way.there + room)

    def rounds(self, seconds: float) -> Merchant:
        """So many seconds of them."""
        for _ in range(round(seconds / ROUND)):
            self.round()
        return self


def test_where_there_is_room_it_stays_as_wide_as_it_may_be() -> None:
    merchant = Merchant(room=100, takes=0.2).rounds(10)
    assert (merchant.bounced, merchant.most) == (0, MOST)
    assert merchant.attempted >= 0.8 * 10 / 0.3 * MOST


def test_where_there_is_less_room_it_settles_there() -> None:
    merchant = Merchant(room=14, takes=10.0).rounds(300)
    assert merchant.attempted >= 0.8 * 14 * 290 / 10
    assert merchant.bounced < merchant.attempted / 2


@pytest.mark.parametrize("hints", [True, False])
def test_who_hangs_is_tried_rarely_until_callbacks_end(hints: bool) -> None:
    """All room is taken by deliveries that were no releases, and end after a while."""
    merchant = Merchant(room=14, takes=60.0, direct=14, hints=hints)
    merchant.rounds(59)
    assert MOST < merchant.bounced <= MOST + 5, "once as many as it might have taken, then one after 4, 8, 16 s"
    before = merchant.gone
    merchant.rounds(30)
    assert merchant.gone - before >= (14 if hints else 1)


def test_one_that_is_never_let_in_is_tried_ever_more_rarely() -> None:
    merchant = Merchant(room=0, takes=1.0).rounds(4 * LONGEST_PAUSE)
    assert merchant.attempted == 0
    assert merchant.gone - MOST < 15
    assert merchant.window.pause == LONGEST_PAUSE


def test_who_answers_again_has_all_of_its_window_after_some_seconds() -> None:
    merchant = Merchant(room=0, takes=0.2).rounds(20)
    merchant._room = 100
    merchant.rounds(4 * FIRST_PAUSE + SETTLED / PART + 10)
    assert merchant.window.width == MOST


def test_attempts_that_fail_make_room_only_for_who_has_acknowledged_something() -> None:
    window = Window(0)
    for _ in range(5):
        window.ended(acknowledged=False, released=False)
    assert window.width == 0
    window.ended(acknowledged=True, released=True)
    assert window.width == 0, "a release gives its own place back"
    window.ended(acknowledged=False, released=False)
    window.ended(acknowledged=True, released=False)
    assert window.width == 2


def test_it_is_never_wider_than_the_merchant_s_bound() -> None:
    window = Window(MOST)
    for _ in range(100):
        window.ended(acknowledged=True, released=False)
    window.look(OnTheWay(), MOST, 1.0)
    assert window.room(OnTheWay(), 1.0) == MOST
    window.look(OnTheWay(), 3, 2.0)
    assert window.room(OnTheWay(), 2.0) == 3


@pytest.mark.parametrize("most", [1, MOST])
def test_the_first_pause_is_the_shortest_however_narrow_the_bound(most: int) -> None:
    window = Window(most)
    window.look(OnTheWay(0, 500), most, 1.0)
    assert window.pause == FIRST_PAUSE
    assert (window.room(OnTheWay(), 1.0 + FIRST_PAUSE - 0.1), window.room(OnTheWay(), 1.0 + FIRST_PAUSE)) == (0, 1)
    window.gone(OnTheWay(1), 1.0 + FIRST_PAUSE)
    window.look(OnTheWay(0, 5_000), most, 6.0)
    assert window.pause == 2 * FIRST_PAUSE


def test_what_was_found_out_is_remembered_for_as_long_as_it_is_waited_for() -> None:
    window = Window(MOST)
    window.look(OnTheWay(0, 9_500), MOST, 10.0)
    assert not window.forgettable(10.0 + FIRST_PAUSE)
    assert window.forgettable(11.0 + 3 * FIRST_PAUSE)
