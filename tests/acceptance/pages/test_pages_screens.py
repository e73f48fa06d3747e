"""Every screen in a real browser: phone and desk, light and dark, quiet in the console, alone on the network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.async_api import expect

from tests.acceptance.pages.conftest import HOSTILE, Trade
from tests.acceptance.pages.looking import SCHEMES, WIDTHS, Windows, looking

SCREENS: dict[str, Callable[[Trade], str]] = {
    "overview": lambda trade: "/",
    "notifications": lambda trade: "/notifications",
    "notifications-none": lambda trade: "/notifications?reference=nobody",
    "notifications-wrong": lambda trade: "/notifications?status=nonsense",
    "notification-delivered": lambda trade: f"/notifications/{trade.ids['flaky'][0]}",
    "notification-exhausted": lambda trade: f"/notifications/{trade.ids['failing'][0]}",
    "notification-held": lambda trade: f"/notifications/{trade.ids['blocked'][0]}",
    "undelivered": lambda trade: "/undelivered",
    "undelivered-nothing": lambda trade: "/undelivered?merchant=prompt",
    "merchants": lambda trade: "/merchants",
    "merchant": lambda trade: "/merchants/failing",
    "merchant-blocked": lambda trade: "/merchants/blocked",
    "merchant-unknown": lambda trade: "/merchants/unknown",
    "merchant-hostile": lambda trade: f"/merchants/{quote(HOSTILE, safe='')}",
    "register": lambda trade: "/register",
    "login": lambda trade: "/login?failed=1",
}


#: How each screen is looked at: by scheme and width.
APPEARANCES = tuple(zip(SCHEMES, WIDTHS, strict=True))
EACH_APPEARANCE = tuple(itertools.product(SCHEMES, WIDTHS))


@pytest.mark.parametrize(
    "appearances",
    [pytest.param(APPEARANCES, id="two"), pytest.param(EACH_APPEARANCE, id="all", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_fits_and_says_nothing_in_the_console_and_asks_nobody_else(
    browser: Windows, trade: Trade, screen: str, appearances: tuple[tuple[str, int], ...]
) -> None:
    async with looking(browser, trade.address) as looker:
        await looker.go(SCREENS[screen](trade))
        await expect(looker.page.get_by_role("heading", level=1)).to_have_count(1)
        assert await looker.unnamed() == []
        for scheme, width in appearances:
            await looker.appear(width, scheme)
            await looker.shoot(f"{screen}-{width}-{scheme}")
            assert await looker.too_wide() <= 0, (scheme, width)
        refused = screen in ("notifications-wrong", "login")  # their status is an error, and the console says so
        assert [fault for fault in looker.faults if not (refused and "status of 4" in fault)] == []


async def test_open_menus_fit_a_phone(browser: Windows, trade: Trade) -> None:
    async with looking(browser, trade.address, width=390) as looker:
        for path in ("/", "/merchants/failing"):
            await looker.go(path)
            for menu in await looker.page.locator("details.menu > summary").all():
                await menu.click()
                assert await looker.too_wide() <= 0
                box = await looker.page.locator("details.menu[open] > .drop").bounding_box()
                assert box is not None
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= 390
                await looker.page.keyboard.press("Escape")
        assert looker.faults == []


async def test_what_hostile_merchants_are_called_and_answer_is_text(browser: Windows, trade: Trade) -> None:
    (notification, *_) = trade.ids[HOSTILE]
    paths = (
        "/",
        "/notifications",
        "/undelivered",
        "/merchants",
        f"/notifications/{notification}",
        f"/merchants/{quote(HOSTILE, safe='')}",
    )
    async with looking(browser, trade.address) as looker:
        for path in paths:
            await looker.go(path)
            assert await looker.page.title() != "owned"
            assert await looker.page.locator("img[src=x]").count() == 0
            assert await looker.page.get_by_role("heading", name="owned", exact=True).count() == 0
        await looker.go(f"/notifications/{notification}")
        await looker.page.get_by_text("Request and answer").first.click()
        await expect(
            looker.page.get_by_text("<script>document.title='owned'</script>").locator("visible=true").first
        ).to_be_visible()
        assert looker.faults == []


async def test_attempts_appear_as_they_happen(browser: Windows, trade: Trade) -> None:
    async with looking(browser, trade.address) as looker:
        await looker.go("/")
        async with looker.page.expect_response(lambda answer: "/v1/stream" in answer.url):
            await looker.page.reload()
        await trade.send("streamed", 1, f"{trade.merchants.url}/streamed")
        await expect(looker.page.locator("[data-stream] li", has_text="streamed")).to_have_count(1)
        assert looker.faults == []


async def test_a_page_brings_itself_up_to_date(browser: Windows, trade: Trade) -> None:
    await trade.register("later")
    async with looking(browser, trade.address) as looker:
        await looker.go("/merchants/later")
        figure = looker.page.locator("#figures div", has_text="Delivered").locator("dd").first
        await expect(figure).to_have_text("0")
        await trade.send("later", 3)
        await expect(figure).to_have_text("3", timeout=15_000)
        assert looker.faults == []


@pytest.mark.parametrize("what", ["id", "reference", "merchant", "part of a merchant", "nothing"])
async def test_the_search_leads_to_an_id_a_reference_or_a_merchant(browser: Windows, trade: Trade, what: str) -> None:
    notification = trade.ids["failing"][0]
    sought, path = {
        "id": (notification, f"/notifications/{notification}"),
        "reference": ("failing-order", "/notifications?reference=failing-order"),
        "merchant": ("refused", "/merchants/refused"),
        "part of a merchant": ("efuse", "/merchants?text=efuse"),
        "nothing": ("no such thing", "/search?q=no+such+thing"),
    }[what]
    async with looking(browser, trade.address) as looker:
        await looker.go("/merchants")
        await looker.page.keyboard.press("/")
        await looker.page.keyboard.type(sought)
        await looker.page.keyboard.press("Enter")
        await expect(looker.page).to_have_url(f"{trade.address}{path}")


async def test_the_keyboard_reaches_the_content_first_and_every_control_shows_its_focus(
    browser: Windows, trade: Trade
) -> None:
    async with looking(browser, trade.address) as looker:
        await looker.go("/undelivered")
        await looker.page.keyboard.press("Tab")
        skip = looker.page.get_by_role("link", name="Skip to content")
        await expect(skip).to_be_focused()
        await looker.page.keyboard.press("Enter")
        await expect(looker.page.locator("#main")).to_be_focused()
        for _ in range(12):
            await looker.page.keyboard.press("Tab")
            outline = await looker.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none"
