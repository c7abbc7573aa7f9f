"""A visitor's walk through the app in a real browser; where no browser or no playwright is found, it is skipped."""

import os
import re
import shutil
import zipfile
from contextlib import closing
from types import SimpleNamespace

import pytest

from sia_gen.audits.finished.audit_report import AuditReport
from sia_gen.service.app import interface
from sia_gen.service.app.jobs import Jobs
from sia_gen.service.offer import Offer
from sia_gen.service.runs import RunStore

COLOURS = "tests.standins:colours"
IS_RED, IS_SLOWLY_RED = "tests.standins:is_red", "tests.standins:is_slowly_red"
NAMED = os.environ.get("CHROMIUM")  # a browser that is named is to be used: then nothing is skipped
BROWSER = NAMED or shutil.which("chromium") or shutil.which("chromium-browser")
SOON = 120_000  # milliseconds

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium is installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
if NAMED:
    from playwright import sync_api as playwright
else:
    playwright = pytest.importorskip("playwright.sync_api")
playwright.expect.set_options(timeout=SOON)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The app's address, and the store of its runs."""
    with closing(Jobs()) as jobs:
        store = RunStore(tmp_path_factory.mktemp("runs"))
        app = interface.build(Offer([COLOURS], [IS_SLOWLY_RED, IS_RED]), jobs, store=store)
        style = {"css": interface.STYLE, "theme": interface._theme()}
        _, address, _ = app.queue().launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, **style)
        yield SimpleNamespace(address=address, store=store)
        app.close(verbose=False)


@pytest.fixture
def page(served, request):
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": getattr(request, "param", 1440), "height": 900})
        page.set_default_timeout(SOON)
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(served.address)
        yield page
        browser.close()
    assert faults == []


def test_a_visitors_walk(page, served):
    attack(page)
    audit(page, served.store)
    compare(page)


def attack(page):
    """Attack, see the pictures, go through the steps, attack again with another budget, and take it along."""
    headline = page.locator("#attack .headline")
    start = page.get_by_role("button", name="Attack", exact=True)
    start.click()
    playwright.expect(headline).to_contain_text("Face 0")
    playwright.expect(page.locator(".status").first).to_contain_text("Done.")
    shown = page.locator("#attack [data-step]:not([hidden]) figure")
    assert [text.split()[0] for text in shown.all_inner_texts()] == ["Before", "Semantic", "Adversarial", "Residual"]
    assert shown.locator("img").first.get_attribute("alt") == "Face 0 before any change"
    assert all(box["width"] >= 256 for box in (shown.locator("img").nth(index).bounding_box() for index in range(4)))

    page.locator("#attack input[type=range]").fill("1")  # replay, without the server
    assert page.locator("#attack [data-step='1']").is_visible()
    assert not page.locator("#attack [data-step='2']").is_visible()

    playwright.expect(page.locator("#attack")).to_contain_text("of ρ = 1.")
    page.get_by_label("number input for Budget ρ").first.fill("5")
    start.click()
    playwright.expect(page.locator("#attack")).to_contain_text("of ρ = 5.")
    page.get_by_role("button", name="Next face").first.click()
    playwright.expect(headline).to_contain_text("Face 1 fails")
    playwright.expect(page.locator("#attack .bar").first).to_contain_text("points")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download pictures and numbers").click()
    assert download.value.suggested_filename == "face-1.zip"


def audit(page, store):
    """Audit four faces, stop it and go on with it, open an attribute's bar, and take the run along."""
    page.get_by_role("tab", name="Audit").click()
    page.get_by_label("number input for Faces").fill("4")
    start, status = page.get_by_role("button", name="Run the audit"), page.locator(".status:visible").first
    start.click()
    playwright.expect(status.locator("progress")).to_have_attribute("value", re.compile("[1-9]"))  # parts are done
    page.get_by_role("button", name="Stop").locator("visible=true").click()
    playwright.expect(status).to_contain_text("the same request goes on from there")
    assert store.finished() == []
    kept = {path: path.stat().st_mtime_ns for path in store.folder.glob("*/parts/*.safetensors")}
    assert kept

    start.click()
    report = page.frame_locator("#report iframe")
    playwright.expect(report.locator("h1")).to_contain_text("Audit of is-slowly-red")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # nothing was done twice
    found = AuditReport.load(store.folder / store.finished()[0]).histogram
    first, second = found["attributes"]

    bars = report.locator(".bars details")
    assert bars.locator(".name").all_inner_texts() == [f"▸ {first['name']}", second["name"]]
    pictures = [bars.nth(index).get_by_role("img") for index in range(2)]
    assert pictures[0].first.is_visible()
    assert not pictures[1].first.is_visible()
    bars.nth(1).locator("summary").focus()
    page.keyboard.press("Enter")
    playwright.expect(pictures[1]).to_have_count(6)  # three faces, before and after
    assert not pictures[0].first.is_visible()
    assert pictures[1].first.get_attribute("alt").endswith(", before")
    assert all(pictures[1].nth(index).evaluate("image => image.naturalWidth") == 16 for index in range(6))
    bars.nth(0).locator("summary").click()
    assert pictures[0].first.is_visible()
    report.locator("summary", has_text="How to read this").click()
    whole = "frame => frame.contentDocument.documentElement.scrollHeight <= frame.clientHeight"
    playwright.expect(report.get_by_text("This measures sensitivity")).to_be_visible()
    page.wait_for_function(f"({whole})(document.querySelector('#report iframe'))")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download this run").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert f"{store.finished()[0]}/report.html" in archive.namelist()

    choose(page, "Target", IS_RED)
    start.click()
    playwright.expect(report.locator("h1")).to_contain_text("Audit of is-red")


def compare(page):
    """Two targets on the same face, and the two audits."""
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Attack both").click()
    playwright.expect(page.locator(".sia-attack:visible")).to_have_count(2)
    choose(page, "First run", "tests-standins-is-slowly-red-4")
    choose(page, "Second run", "tests-standins-is-red-4")
    playwright.expect(page.get_by_text("4 faces that both read right are too few to say what differs")).to_be_visible()
    playwright.expect(page.get_by_text("first: change of output").locator("visible=true").first).to_be_visible()


def choose(page, label, value):
    """One of a dropdown's options, by how it begins."""
    page.get_by_label(label, exact=True).locator("visible=true").click()
    page.get_by_role("option").filter(has_text=value).first.click()


@pytest.mark.parametrize("page", [390, 1024, 1440], indirect=True)
def test_nothing_is_wider_than_the_screen(page):
    page.get_by_role("button", name="Attack", exact=True).click()
    playwright.expect(page.locator(".status").first).to_contain_text("Done.")
    width, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room
    assert page.locator("#attack [data-step]:not([hidden]) img").first.bounding_box()["width"] >= 256
