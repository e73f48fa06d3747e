"""The domain's values are values: nothing that holds one sees it change."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from notifier.domain.acknowledgement import AckRule
from notifier.domain.decision import Complete, Exhausted, Held, HoldReason, NextTier, Poison, Stopped
from notifier.domain.fact import Fact, Kind
from notifier.domain.ladder import PRESETS
from notifier.domain.merchant import Merchant
from notifier.domain.notification import Notification
from notifier.domain.outcome import Outcome
from notifier.domain.signature import Secret
from notifier.domain.tier import Tier
from notifier.domain.wire import Message

VALUES = (
    AckRule(),
    Complete(),
    Exhausted("why"),
    Held(HoldReason.NO_ROOM),
    NextTier(Tier(1), 1),
    Poison("why"),
    Stopped("why", True),
    Fact(Kind.HELD, "ntf_1", 0, 1),
    PRESETS["default"],
    Merchant("m1"),
    Notification(id="ntf_1", merchant="m1", payload=b""),
    Outcome.ok(),
    Secret(b"x" * 24),
    Tier(1),
    Message(b""),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen_and_takes_no_further_fields(value: object) -> None:
    names = [field.name for field in fields(value)]  # type: ignore[arg-type]  # all are dataclasses
    for name in names:
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)
    with pytest.raises((FrozenInstanceError, TypeError)):
        setattr(value, "another", None)  # noqa: B010  that it cannot be set is the test
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize(
    "headers",
    [Message(b"").headers, Notification(id="a", merchant="m", payload=b"").extra, Fact(Kind.HELD, "a", 0, 1).body],
)
def test_default_mappings_cannot_be_written_to(headers: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        headers["x"] = 1


def test_the_presets_cannot_be_written_to() -> None:
    with pytest.raises(TypeError):
        PRESETS["default"] = PRESETS["wechat"]  # type: ignore[index]  # the attempt is the test
