"""One merchant gets nothing: somebody who knows nothing of the project finds out why, fixes it and sends again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Locator, expect

from tests.acceptance.pages.conftest import Trade
from tests.acceptance.pages.looking import SCHEMES, WIDTHS, Looker, Windows, looking

#: Milliseconds in which what was held must be delivered after its reason is gone.
SOON = 20_000


def cause(looker: Looker, merchant: str) -> Locator:
    """What the page says of a merchant's trouble."""
    return looker.page.locator("article.cause").filter(has=looker.page.get_by_role("link", name=merchant, exact=True))


async def said(looker: Looker, words: str) -> None:
    """The page says what came of it, to those who do not see it as well."""
    await expect(looker.page.get_by_role("status").filter(has_text=words)).to_be_visible(timeout=SOON)


async def delivered(looker: Looker, merchant: str, count: int) -> None:
    """Its page says so by itself."""
    await looker.go(f"/merchants/{merchant}")
    rows = looker.page.locator("#recent tr", has_text="delivered")
    await expect(rows).to_have_count(count, timeout=SOON)


@pytest.mark.parametrize(
    "scripts", [True, pytest.param(False, marks=pytest.mark.long)], ids=["with JavaScript", "without JavaScript"]
)
async def test_a_blocked_merchant_is_unblocked_beside_the_reason_and_gets_everything(
    browser: Windows, trade: Trade, scripts: bool
) -> None:
    merchant = f"shop-{int(scripts)}"
    await trade.register(merchant)
    await trade.client.post(f"/v1/merchants/{merchant}/block", {"reason": "charged twice"})
    await trade.send(merchant, 3)
    await trade.settled(merchant, "held")
    async with looking(browser, trade.address, scripts=scripts) as looker:
        await looker.go("/")
        await looker.page.get_by_role("navigation").get_by_role("link", name="Undelivered").click()
        await expect(cause(looker, merchant)).to_contain_text(
            re.compile(rf"{merchant} is blocked\. Since .* UTC, by .*: charged twice")
        )
        await cause(looker, merchant).get_by_role("button", name=f"Unblock {merchant}").click()
        await said(looker, f"{merchant} is no longer blocked")
        await trade.settled(merchant, "completed")
        await delivered(looker, merchant, 3)
        assert looker.faults == []


async def test_a_merchant_that_nobody_can_reach_gets_another_address_and_everything_again(
    browser: Windows, trade: Trade
) -> None:
    await trade.register("moved", "http://127.0.0.1:9/old", ladder="0s")
    await trade.send("moved", 2)
    await trade.settled("moved", "exhausted")
    async with looking(browser, trade.address) as looker:
        await looker.go("/undelivered")
        await expect(cause(looker, "moved")).to_contain_text("nobody answers at its address")
        await cause(looker, "moved").get_by_text("Change the address").click()
        await cause(looker, "moved").get_by_label("Address (URL) of moved").fill(f"{trade.merchants.url}/moved")
        await looker.shoot("address")
        await cause(looker, "moved").get_by_role("button", name="Save", exact=True).click()
        await said(looker, "moved is called at the new address from now on. The 2 that failed before do not go there")
        await expect(cause(looker, "moved")).to_contain_text("moved's address was changed after these failed")
        await looker.shoot("address-saved")
        await cause(looker, "moved").get_by_role("button", name="Send all 2 again").click()
        await expect(looker.page.get_by_role("heading", level=1)).to_have_text(
            "2 notifications sent again: 2 delivered.", timeout=SOON
        )
        await expect(looker.page.locator(".lead")).to_contain_text(
            "moved: 2 undelivered, nobody answered at its address"
        )
        await expect(looker.page.locator("#standing tbody tr", has_text="delivered")).to_have_count(2)
        await looker.shoot("replay")
        await delivered(looker, "moved", 2)
        assert looker.faults == []


async def test_another_address_is_saved_and_what_had_failed_is_sent_there_in_one_go(
    browser: Windows, trade: Trade
) -> None:
    await trade.register("hurried", "http://127.0.0.1:9/old", ladder="0s")
    await trade.send("hurried", 2)
    await trade.settled("hurried", "exhausted")
    async with looking(browser, trade.address, scripts=False) as looker:
        await looker.go("/merchants/hurried")
        await looker.page.get_by_text("Change the address").click()
        await looker.page.locator(".drop").get_by_label("Address (URL)").fill(f"{trade.merchants.url}/hurried")
        await looker.page.get_by_role("button", name="Save, and send the 2 again").click()
        await said(looker, "hurried is called at the new address from now on, and what had failed is sent again")
        await expect(looker.page).to_have_url(re.compile("/replays/"))
        await trade.settled("hurried", "completed")


async def test_a_merchant_is_switched_off_for_a_while_which_the_first_page_says_until_it_is_undone(
    browser: Windows, trade: Trade
) -> None:
    await trade.register("blue-bikes")
    async with looking(browser, trade.address, width=390) as looker:
        await looker.go("/merchants/blue-bikes")
        await looker.page.get_by_text("Switch off").click()
        await looker.shoot("switch-off")
        await looker.page.get_by_role("button", name="Cancel").click()
        await expect(looker.page.get_by_role("button", name="Block")).to_be_hidden()
        await looker.page.get_by_text("Switch off").click()
        await looker.page.get_by_role("button", name="Block").click()
        await said(looker, "blue-bikes is blocked: no call to it starts any more.")
        await expect(looker.page.locator("#acts").get_by_role("button", name="Unblock")).to_be_visible()
        await looker.go("/merchants?text=blue")
        await expect(looker.page.locator("#rows")).to_contain_text(re.compile(r"blocked until .* UTC"))
        await looker.shoot("merchants-blocked")
        await looker.go("/")
        told = looker.page.locator("#attention").get_by_role("listitem").filter(has_text="blue-bikes is blocked until")
        await looker.shoot("overview-off")
        await told.get_by_role("button", name="Unblock blue-bikes").click()
        await said(looker, "blue-bikes is no longer blocked")
        await expect(told).to_have_count(0)
        assert looker.faults == []


async def test_a_merchant_that_is_given_a_rest_is_called_again_by_hand(browser: Windows, trade: Trade) -> None:
    """Its breaker opened: both pages say until when and what comes next, and offer not to wait for it."""
    await trade.register("tired", f"{trade.merchants.url}/failing")
    await trade.send("tired", 22)

    async def resting() -> bool:
        shown = (await trade.client.get("/v1/tiers")).json
        return any(breaker["merchant"] == "tired" for breaker in shown["breakers"])

    await trade.client.becomes(resting)
    metrics = (await trade.client.get("/metrics")).body.decode()
    assert 'notifier_breakers{state="open"} 1.0' in metrics
    async with looking(browser, trade.address) as looker:
        for path, name in (("/", "rest-overview"), ("/merchants/tired", "rest-merchant")):
            await looker.go(path)
            rest = looker.page.locator("article.cause").filter(has_text="tired is given a rest until")
            await expect(rest.first).to_contain_text(re.compile(r"until .* UTC: \d+ of \d+ attempts failed\."))
            for width in WIDTHS:
                for scheme in SCHEMES:
                    await looker.appear(width, scheme)
                    await looker.shoot(f"{name}-{width}-{scheme}")
                    assert await looker.too_wide() <= 0
        await expect(looker.page.locator("article.cause").first).to_contain_text("a single attempt is made")
        await looker.page.get_by_role("button", name="Call tired now").first.click()
        await said(looker, "tired is called again; what was kept back goes out now.")
        assert looker.faults == []


async def test_an_unknown_merchant_is_given_an_address_and_its_secret_is_shown_once(
    browser: Windows, trade: Trade
) -> None:
    await trade.send("newcomer", 2)
    await trade.settled("newcomer", "held")
    async with looking(browser, trade.address) as looker:
        await looker.go("/undelivered")
        await expect(cause(looker, "newcomer")).to_contain_text("Nobody has said where newcomer is to be reached.")
        await (
            cause(looker, "newcomer").get_by_label("Address (URL) of newcomer").fill(f"{trade.merchants.url}/newcomer")
        )
        await cause(looker, "newcomer").get_by_role("button").click()
        secret = await looker.page.locator(".secret").inner_text()
        assert secret.startswith("whsec_")
        await looker.page.get_by_role("link", name="I have it").click()
        await expect(looker.page.get_by_role("heading", level=1)).to_have_text("newcomer")
        assert secret not in await looker.page.content()
        await delivered(looker, "newcomer", 2)
        assert looker.faults == []


async def test_a_merchant_that_said_gone_is_enabled_again(browser: Windows, trade: Trade) -> None:
    await trade.register("returning", f"{trade.merchants.url}/gone")
    await trade.send("returning", 1)
    await trade.settled("returning", "stopped")
    async with looking(browser, trade.address) as looker:
        await looker.go("/merchants/returning")
        await expect(looker.page.locator("#causes")).to_contain_text("answered 410 Gone", timeout=SOON)
        await looker.page.get_by_text("Change the address").click()
        await looker.page.locator(".drop").get_by_label("Address (URL)").fill(f"{trade.merchants.url}/returning")
        await looker.page.locator(".drop").get_by_role("button", name="Save", exact=True).click()
        await said(looker, "called at the new address")
        await looker.page.get_by_role("button", name="Enable returning").first.click()
        await said(looker, "returning is enabled")
        await looker.page.get_by_role("button", name="Send it again").click()
        await delivered(looker, "returning", 1)
        assert looker.faults == []


async def test_what_fails_on_a_long_ladder_is_told_before_it_is_used_up(browser: Windows, trade: Trade) -> None:
    await trade.register(
        "slow-lane", "http://127.0.0.1:9/old", ladder="0s,0s,0s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"
    )
    paused = await trade.client.post("/v1/tiers/1s/pause", {"reason": "so that it is mended before its last attempt"})
    assert paused.status == 200, paused
    try:
        (notification,) = await trade.send("slow-lane")
        async with looking(browser, trade.address) as looker:
            await looker.go("/merchants/slow-lane")
            told = looker.page.locator("article.cause", has_text="1 notification still on its ladder")
            await expect(told).to_contain_text("nobody answers at its address", timeout=SOON)
            await told.get_by_text("Change the address").click()
            await told.get_by_label("Address (URL)").fill(f"{trade.merchants.url}/slow-lane")
            await told.get_by_role("button", name="Save", exact=True).click()
            await said(looker, "called at the new address")
            await trade.client.post("/v1/tiers/1s/resume")
            await trade.client.until(notification, status="completed")
            await expect(looker.page.locator("article.cause")).to_have_count(0, timeout=SOON)
            assert looker.faults == []
    finally:
        await trade.client.post("/v1/tiers/1s/resume")


async def test_a_selection_is_counted_before_it_is_sent_again(browser: Windows, trade: Trade) -> None:
    for merchant in ("left", "right"):
        await trade.register(merchant, f"{trade.merchants.url}/failing", ladder="0s")
        await trade.send(merchant, 2)
    for merchant in ("left", "right"):
        await trade.settled(merchant, "exhausted")
    async with looking(browser, trade.address) as looker:
        await looker.go("/undelivered")
        for merchant in ("left", "right"):
            await cause(looker, merchant).get_by_role("checkbox").check()
        await looker.page.get_by_role("button", name="Count, then send again").click()
        await expect(looker.page.get_by_role("heading", level=1)).to_have_text("4 notifications would be sent again.")
        assert (await trade.client.get("/v1/notifications?merchant=left")).json["notifications"][0]["run"] == 0
        await looker.page.get_by_role("button", name="Send 4 again").click()
        await said(looker, "2 jobs")
        for each in (*trade.ids["left"], *trade.ids["right"]):
            await trade.client.until(each, run=1, status="exhausted")
        assert looker.faults == []


async def test_one_notification_is_cancelled_and_sent_again(browser: Windows, trade: Trade) -> None:
    await trade.register("patient")
    await trade.client.post("/v1/merchants/patient/block", {})
    (notification,) = await trade.send("patient")
    await trade.settled("patient", "held")
    async with looking(browser, trade.address) as looker:
        await looker.go(f"/notifications/{notification}")
        await expect(looker.page.get_by_role("heading", level=1)).to_have_text("Kept back: the merchant is blocked.")
        await looker.page.get_by_text("Cancel", exact=True).click()
        await looker.page.get_by_label("Reason").fill("a mistake")
        await looker.page.get_by_role("button", name="Cancel this notification").click()
        await said(looker, "It is cancelled")
        await expect(looker.page.get_by_role("heading", level=1)).to_have_text("Cancelled.", timeout=SOON)
        await trade.client.post("/v1/merchants/patient/unblock", {})
        await looker.page.get_by_role("button", name="Send it again").click()
        await expect(looker.page.get_by_role("heading", level=1)).to_contain_text("Delivered", timeout=SOON)
        assert looker.faults == []


async def test_a_tier_is_paused_with_a_reason_and_resumed(browser: Windows, trade: Trade) -> None:
    async with looking(browser, trade.address) as looker:
        await looker.go("/")
        await looker.page.get_by_text("Pause tier 1s").click()
        await looker.page.locator("details[open]").get_by_label("Reason").fill("the network is being moved")
        await looker.page.locator("details[open]").get_by_label("For how long").select_option("10 minutes")
        await looker.page.get_by_role("button", name="Pause 1s").click()
        await said(looker, "Tier 1s is paused.")
        paused = looker.page.locator("#attention").get_by_text("Tier 1s is paused since")
        await expect(paused).to_contain_text("the network is being moved", timeout=SOON)
        await looker.page.locator("#attention").get_by_role("button", name="Resume 1s").click()
        await said(looker, "Tier 1s goes on.")
        await expect(paused).to_have_count(0, timeout=SOON)
        assert looker.faults == []


async def test_what_is_typed_survives_the_page_bringing_itself_up_to_date(browser: Windows, trade: Trade) -> None:
    async with looking(browser, trade.address) as looker:
        await looker.go("/merchants/failing")
        await looker.page.get_by_text("Switch off").click()
        reason = looker.page.locator("details[open]").get_by_label("Reason")
        await reason.fill("half a sen")
        for _ in range(2):
            async with looker.page.expect_response(lambda answer: answer.url.endswith("/merchants/failing")):
                pass
        await expect(reason).to_have_value("half a sen")
        await expect(reason).to_be_focused()


async def test_a_merchant_is_added_changed_tested_and_given_a_new_secret(browser: Windows, trade: Trade) -> None:
    async with looking(browser, trade.address) as looker:
        page = looker.page
        await looker.go("/merchants")
        await page.get_by_role("link", name="Add a merchant").click()
        await page.get_by_label("Name").fill("tea-house")
        await page.get_by_label("Address (URL)").fill("nowhere")
        await page.get_by_role("button", name="Add the merchant").click()
        await expect(page.get_by_label("Address (URL)")).to_have_attribute("aria-invalid", "true")
        await expect(page.get_by_label("Name")).to_have_value("tea-house")
        await page.get_by_label("Address (URL)").fill(f"{trade.merchants.url}/tea-house")
        await page.get_by_role("button", name="Add the merchant").click()
        first = await page.locator(".secret").inner_text()
        await page.get_by_role("link", name="I have it").click()
        await page.get_by_label("Calls a second").fill("2.5")
        await page.get_by_role("button", name="Save").click()
        await said(looker, "The settings of tea-house are saved")
        await expect(page.get_by_label("Calls a second")).to_have_value("2.5")
        await page.locator("summary", has_text="Secret").click()
        await page.get_by_role("button", name="Make a new secret").click()
        await expect(page.locator(".secret")).not_to_have_text(first)
        await page.get_by_role("link", name="I have it").click()
        await expect(page.locator("main")).to_contain_text("2 secrets sign")
        await page.get_by_role("button", name="Send a test").click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Delivered", timeout=SOON)
        assert [fault for fault in looker.faults if "status of 422" not in fault] == []


async def test_a_page_of_another_site_cannot_press_a_button(trade: Trade) -> None:
    headers: dict[str, Any] = {"Origin": "https://evil.example", "Content-Type": "application/x-www-form-urlencoded"}
    answer = await trade.client.ask("POST", "/merchants/prompt/block", headers=headers)
    assert answer.status == 403
    assert (await trade.client.get("/v1/merchants/prompt")).json["standing"] == "enabled"
