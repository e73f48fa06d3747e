"""A page in the system's own Chromium, and everything that must not happen in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

#: What Debian, other distributions and Google call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Where screenshots are put for people, if they name a directory.
SHOTS = "PAGES_SHOTS"
WIDTHS = (390, 1280)
SCHEMES = ("light", "dark")


@dataclass
class Looker:
    """faults: errors of scripts, of the console, refusals by the content security policy, requests to anywhere else."""

    page: Page
    address: str
    faults: list[str] = field(default_factory=list)

    async def go(self, path: str) -> None:
        """Open a page of the service."""
        await self.page.goto(f"{self.address}{path}")

    async def appear(self, width: int, scheme: str) -> None:
        """In a window of this width, by the light that somebody prefers."""
        await self.page.set_viewport_size({"width": width, "height": 900})
        await self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")

    async def too_wide(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(await self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    async def unnamed(self) -> list[str]:
        """What can be filled in or pressed, but says nothing to somebody who does not see it."""
        found: list[str] = await self.page.evaluate(
            """() => [...document.querySelectorAll("input:not([type=hidden]), select, button, a[href], summary")]
                .filter((each) => !each.labels?.length && !(each.textContent.trim() || each.ariaLabel || each.title))
                .filter((each) => each.getAttribute("aria-hidden") !== "true")
                .map((each) => each.outerHTML)"""
        )
        return found

    async def shoot(self, name: str) -> None:
        """A screenshot of the whole page, for those who asked for it."""
        if directory := os.environ.get(SHOTS):
            await self.page.screenshot(path=Path(directory) / f"{name}.png", full_page=True)


def executable() -> str | None:
    """The installed browser."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@contextlib.asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Browser]:
    """The browser, without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def looking(browser: Browser, address: str, *, width: int = 1280, scripts: bool = True) -> AsyncIterator[Looker]:
    """A fresh window on the service, nobody signed in. scripts: False is a browser without JavaScript."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900},
        java_script_enabled=scripts,
    )
    page = await context.new_page()
    looker = Looker(page, address)
    page.on("pageerror", lambda error: looker.faults.append(f"script: {error}"))
    page.on(
        "console",
        lambda said: looker.faults.append(f"console: {said.text}") if said.type in ("error", "warning") else None,
    )
    page.on(
        "request",
        lambda asked: None if asked.url.startswith(address) else looker.faults.append(f"foreign: {asked.url}"),
    )
    try:
        yield looker
    finally:
        await context.close()
