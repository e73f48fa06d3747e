"""The way in where a token is set; and what the pages say while the ledger's database is away."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import expect

from tests.acceptance.pages.conftest import Trade, open_trade
from tests.acceptance.pages.looking import Windows, looking
from tests.conftest import TestBroker

TOKEN = "a-token-of-the-pages-0123"
#: Nobody listens there.
NO_DATABASE = "postgresql://nobody@127.0.0.1:9/nothing"


@pytest.fixture(scope="module")
async def closed(broker: TestBroker) -> AsyncIterator[Trade]:
    """A service behind a token, without a database; without an agent, which would wait for one at its first start."""
    settings = {"NOTIFIER_API__TOKEN": TOKEN, "NOTIFIER_DATABASE_URL": NO_DATABASE}
    async with open_trade(broker, "--no-agent", **settings) as trade:
        yield trade


async def test_the_pages_are_shown_to_who_has_the_token_until_they_sign_out(browser: Windows, closed: Trade) -> None:
    async with looking(browser, closed.address) as looker:
        page = looker.page
        await looker.go("/merchants?text=a")
        await expect(page).to_have_url(f"{closed.address}/login?next=/merchants%3Ftext%3Da")
        await page.get_by_label("Token").fill("a-token-that-is-wrong")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_have_text("This token is not known here. Is it complete?")
        await page.get_by_label("Token").fill(f"ntk_{'0' * 48}")
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("alert")).to_contain_text("the ledger's database is away")
        await looker.go("/")
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        assert TOKEN not in await page.evaluate("document.cookie + location.href + document.body.innerHTML")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_url(f"{closed.address}/login")
        await looker.go("/undelivered")
        await expect(page.get_by_label("Token")).to_be_visible()


@pytest.mark.long
async def test_without_a_database_the_ladder_is_shown_and_the_rest_says_what_is_away(
    browser: Windows, closed: Trade
) -> None:
    async with looking(browser, closed.address) as looker:
        page = looker.page
        await looker.go("/login")
        await page.get_by_label("Token").fill(TOKEN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("The service needs you.")
        await expect(page.locator("#attention")).to_contain_text("database 127.0.0.1/nothing cannot be used now")
        await expect(page.get_by_role("region", name="Tier 1s")).to_contain_text("running")
        assert await looker.too_wide() <= 0
        for path in ("/notifications", "/undelivered", "/merchants", "/merchants/shop", "/search?q=shop"):
            await looker.go(path)
            await expect(page.get_by_role("heading", level=1)).to_have_text("That is not possible just now")
