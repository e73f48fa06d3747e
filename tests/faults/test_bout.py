"""A bout: each repeat bit, and what did not is struck again, but not for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tests.faults.bout import bout
from tests.faults.errors import DidNotBite
from tests.faults.fault import Fault
from tests.faults.field import Field
from tests.faults.verdict import Evidence, Window


class Still:
    """A field on which nothing happens; it keeps the windows by which it would be judged."""

    def __init__(self) -> None:
        self.load = self.service = self
        self.windows: Sequence[Window] = ()

    def forget(self) -> None: ...

    async def calm(self) -> None: ...

    async def ready(self) -> None: ...

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        yield

    async def drained(self, windows: Sequence[Window]) -> Evidence:
        self.windows = windows
        return Evidence((), (), (), {}, {}, windows)


def striking(*bites: bool) -> tuple[Fault, list[int]]:
    """A fault that bites, or does not, in this order, and the numbers it was called with."""
    numbers: list[int] = []

    async def strike(field: Any, number: int) -> Window:
        numbers.append(number)
        if not bites[len(numbers) - 1]:
            raise DidNotBite("nothing was seen")
        return Window(1.0, 1.0, 2.0)

    return Fault("a fault", strike), numbers


async def test_what_did_not_bite_is_struck_again_and_is_no_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    field = Still()
    fault, numbers = striking(True, False, True)
    verdict, again = await bout(cast(Field, field), fault, 2)
    assert (verdict.good, again, numbers) == (True, 1, [0, 1, 1])
    assert [window.began == 1.0 for window in field.windows] == [True, False, True], "its own time may have doubled"
    assert "a fault: struck again, since it did not bite: nothing was seen" in capsys.readouterr().err


@pytest.mark.parametrize(("repeats", "most"), [(1, 1), (4, 1), (5, 2), (10, 3)])
async def test_what_does_not_bite_again_and_again_has_no_verdict(repeats: int, most: int) -> None:
    fault, numbers = striking(*[False] * (most + 1))
    with pytest.raises(DidNotBite, match="nothing was seen"):
        await bout(cast(Field, Still()), fault, repeats)
    assert len(numbers) == most + 1
