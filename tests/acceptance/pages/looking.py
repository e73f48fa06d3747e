"""A page in the system's own Chromium, and everything that must not happen in it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

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

    def hear(self, said: ConsoleMessage) -> None:
        """What the console says is a fault if it is no mere remark."""
        if said.type in ("error", "warning"):
            self.faults.append(f"console: {said.text}")

    def notice(self, asked: Request) -> None:
        """The page asks for something: of anybody else that is a fault."""
        if not asked.url.startswith(self.address):
            self.faults.append(f"foreign: {asked.url}")

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


class Windows:
    """The browser, and windows of it that nobody looks at: to open one takes more CPU than most pages that it shows."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._idle: dict[bool, list[Page]] = {True: [], False: []}

    @contextlib.asynccontextmanager
    async def open(self, scripts: bool) -> AsyncIterator[Page]:
        """A window as if it were fresh: empty, light, nobody signed in. One that was left by a failure is closed."""
        page = self._idle[scripts].pop() if self._idle[scripts] else await self._new(scripts)
        try:
            yield page
            await page.goto("about:blank")
            await page.context.clear_cookies()
            await page.emulate_media(color_scheme="light")
        except BaseException:
            await page.context.close()
            raise
        self._idle[scripts].append(page)

    async def _new(self, scripts: bool) -> Page:
        return await (await self._browser.new_context(java_script_enabled=scripts)).new_page()


@contextlib.asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Windows]:
    """The browser, without a screen."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield Windows(browser)
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def looking(browser: Windows, address: str, *, width: int = 1280, scripts: bool = True) -> AsyncIterator[Looker]:
    """A fresh window on the service, nobody signed in. scripts: False is a browser without JavaScript."""
    async with browser.open(scripts) as page:
        await page.set_viewport_size({"width": width, "height": 900})
        looker = Looker(page, address)
        listening: dict[Any, Callable[[Any], None]] = {
            "pageerror": lambda error: looker.faults.append(f"script: {error}"),
            "console": looker.hear,
            "request": looker.notice,
        }
        for event, listener in listening.items():
            page.on(event, listener)
        yield looker
        for event, listener in listening.items():
            page.remove_listener(event, listener)
