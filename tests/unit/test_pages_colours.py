"""The colours of the pages can be read: WCAG 2.2, success criterion 1.4.3, in light and dark."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import notifier.api

STYLE = (Path(notifier.api.__file__).parent / "static/notifier.css").read_text()
GROUNDS = ("ground", "sheet", "well")
WRITING = ("ink", "soft", "faint", "good", "bad", "wait", "held", "idle", "accent")
ON_THEIR_OWN = (
    ("good", "good-well"), ("bad", "bad-well"), ("wait", "wait-well"), ("held", "held-well"), ("accent", "accent-well"),
    ("on-accent", "accent"),
)  # fmt: skip
PAIRS = [(text, ground) for text in WRITING for ground in GROUNDS] + list(ON_THEIR_OWN)
#: The light colours come first in the style sheet, the dark ones after them.
SCHEMES = dict(zip(("light", "dark"), re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL), strict=True))


def colours(scheme: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", SCHEMES[scheme]))


def luminance(colour: str) -> float:
    full = colour if len(colour) == 6 else "".join(each * 2 for each in colour)
    parts = [int(full[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_writing_stands_out_from_its_ground(scheme: str, text: str, ground: str) -> None:
    named = colours(scheme)
    darker, lighter = sorted((luminance(named[text]), luminance(named[ground])))
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5
