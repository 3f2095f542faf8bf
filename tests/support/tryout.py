"""What a user does on the page to try an HTTP edge, in a real browser: run by the Python of `just tools`, which has Playwright.

    build/tools/bin/python -m tests.support.tryout URL CHROMIUM [PICTURE]

Prints what it saw as one JSON document.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from playwright.sync_api import Locator, Page, sync_playwright  # type: ignore[import-not-found]

WITHIN = 20_000  # milliseconds
SIZE = {"width": 1100, "height": 900}
VIOLATIONS = "window.violations = []; document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective + ' ' + event.blockedURI));"


def opened(page: Page, path: str, method: str) -> Locator:
    """The card of an operation, opened."""
    card = (
        page.locator("article")
        .filter(has=page.locator(".path", has_text=path))
        .filter(has=page.locator(".method", has_text=method))
        .first
    )
    card.locator("summary").click()
    return card


def sent(card: Locator) -> dict[str, Any]:
    """Press Send; what the card shows then."""
    card.get_by_role("button", name="Send").click()
    line = card.locator(".answer > p").filter(has_text=" in ")
    line.wait_for(timeout=WITHIN)
    shown = card.locator(".answer > pre").all_inner_texts()
    return {
        "line": line.inner_text(),
        "headers": shown[0],
        "body": shown[1] if len(shown) > 1 else "",
        "curl": card.locator("form > pre").inner_text(),
    }


def tried(page: Page, url: str, picture: str | None) -> dict[str, Any]:
    """The page is read and searched; a GET, a POST and a stream of events are asked."""
    found: dict[str, Any] = {"console": [], "failed": []}
    page.on("console", lambda each: found["console"].append(f"{each.type}: {each.text}"))
    page.on("pageerror", lambda each: found["console"].append(f"error: {each}"))
    page.on("requestfailed", lambda each: found["failed"].append(each.url))
    page.add_init_script(VIOLATIONS)
    answer = page.goto(url, wait_until="networkidle", timeout=WITHIN)
    found["policy"] = answer.headers.get("content-security-policy", "") if answer is not None else ""
    found["title"] = page.locator("h1").inner_text()
    found["operations"] = page.locator("article .path").all_inner_texts()
    page.locator("#find").fill("delays")
    found["searched"] = page.locator("article:visible .path").all_inner_texts()
    page.locator("#find").fill("")
    got = opened(page, "/airports/{airport}", "get")
    got.get_by_label("airport").fill("HNL")
    found["get"] = sent(got)
    if picture is not None:
        page.screenshot(path=picture, full_page=True)
    got.get_by_label("airport").fill("nowhere else")
    found["refused"] = sent(got)
    posted = opened(page, "/flights/{origin}", "post")
    found["example"] = posted.locator("textarea").input_value()
    posted.get_by_label("origin (path)").fill("HNL")
    posted.locator("textarea").fill(
        '{"date": "2001/01/01 01:10", "delay": 95, "distance": 2399, "origin": "HNL", "destination": "SFO"}'
    )
    found["post"] = sent(posted)
    events = opened(page, "/airports/{airport}/delays", "get")
    events.get_by_label("airport").fill("HNL")
    events.get_by_label("most").fill("2")
    found["events"] = sent(events)
    # What is not a part of the page does not run under its policy.
    page.evaluate(
        "() => { const found = document.createElement('script'); found.textContent = 'window.planted = 1'; document.body.append(found); }"
    )
    found["planted"] = page.evaluate("() => window.planted === 1")
    page.wait_for_function("() => window.violations.length > 0", timeout=WITHIN)
    found["violations"] = page.evaluate("() => window.violations")
    return found


def main() -> None:
    """Do it once."""
    url, chromium, *more = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport=SIZE)
            print(json.dumps(tried(page, url, more[0] if more else None)))
        finally:
            browser.close()


if __name__ == "__main__":
    main()
