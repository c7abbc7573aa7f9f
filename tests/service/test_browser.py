"""A visitor's walk through the app in a real browser; where no browser or no playwright is found, it is skipped."""

import os
import shutil
from contextlib import closing

import pytest

from sia_gen.service.app import interface
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore

COLOURS = "tests.standins:colours"
IS_RED, IS_BLUE = "tests.standins:is_red", "tests.standins:is_blue"
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
SOON = 60_000  # milliseconds

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium is installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=SOON)


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with closing(Jobs()) as jobs:
        store = RunStore(tmp_path_factory.mktemp("runs"))
        app = interface.build(Offer([COLOURS], [IS_RED, IS_BLUE]), jobs, store=store)
        style = {"css": interface.STYLE, "theme": interface._theme()}
        _, address, _ = app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **style)
        yield address
        app.close(verbose=False)


@pytest.fixture
def page(address, request):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": getattr(request, "param", 1440), "height": 900})
        page.set_default_timeout(SOON)
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    assert faults == []


def test_a_visitors_walk(page):
    headline = page.locator("#attack .headline")
    page.get_by_role("button", name="Attack", exact=True).click()
    playwright.expect(headline).to_contain_text("Face 0")
    playwright.expect(page.locator(".status").first).to_contain_text("Done.")
    assert page.locator("#attack figure img").nth(0).get_attribute("alt") == "Face 0 before any change"
    shown = page.locator("#attack [data-step]:not([hidden]) img")
    assert shown.count() == 4  # before, semantic, adversarial, residual
    assert all(box["width"] >= 256 for box in (shown.nth(index).bounding_box() for index in range(4)))

    page.locator("#attack input[type=range]").fill("1")  # replay, without the server
    assert page.locator("#attack [data-step='1']").is_visible()
    assert not page.locator("#attack [data-step='2']").is_visible()

    page.get_by_label("number input for Budget ρ").first.fill("5")
    page.get_by_role("button", name="Next face").first.click()
    playwright.expect(headline).to_contain_text("Face 1 fails")
    playwright.expect(page.locator("#attack .bar").first).to_contain_text("points")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download pictures and numbers").click()
    assert download.value.suggested_filename == "face-1.zip"

    page.get_by_role("tab", name="Audit").click()
    page.get_by_label("number input for Faces").fill("4")
    page.get_by_role("button", name="Run the audit").click()
    report = page.frame_locator("#report iframe")
    playwright.expect(report.locator("h1")).to_contain_text("Audit of is-red")

    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Attack both").click()
    playwright.expect(page.locator(".sia-attack:visible")).to_have_count(2)


@pytest.mark.parametrize("page", [390, 1024, 1440], indirect=True)
def test_nothing_is_wider_than_the_screen(page):
    page.get_by_role("button", name="Attack", exact=True).click()
    playwright.expect(page.locator(".status").first).to_contain_text("Done.")
    width, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room
    assert page.locator("#attack [data-step]:not([hidden]) img").first.bounding_box()["width"] >= 256
