"""app.jpg: the app in a browser, wide and narrow, light and dark. Needs playwright, and Chromium.

sia-gen serve
python benchmarks/screenshots.py http://127.0.0.1:7860
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

OUT = Path(__file__).parent / "app.jpg"
SHOTS = (
    ("Attack", 1440, "light"),
    ("Audit", 1440, "light"),
    ("Edit faces-stylegan2", 1440, "dark"),
    ("Attack", 390, "dark"),
    ("Audit", 390, "light"),
    ("Attack", 390, "light"),
)
HEIGHT, SCALE, GAP = 1260, 0.6, 12
SETTLED = 5000  # milliseconds: pictures are drawn


def shot(browser: Browser, address: str, tab: str, width: int, theme: str) -> Image.Image:
    page = browser.new_page(viewport={"width": width, "height": HEIGHT})
    page.set_default_timeout(120_000)
    page.goto(f"{address}/?__theme={theme}")
    page.get_by_role("tab", name=tab, exact=True).click()
    if tab == "Audit":
        page.frame_locator("#report iframe").locator("h1").wait_for()
    page.wait_for_timeout(SETTLED)
    taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    page.close()
    return taken.resize((round(SCALE * taken.width), round(SCALE * taken.height)), Image.Resampling.LANCZOS)


def composed(pictures: list[Image.Image]) -> Image.Image:
    """The first two on top, the others below."""
    rows = [pictures[:2], pictures[2:]]
    width = max(sum(picture.width for picture in row) + GAP for row in rows)
    sheet = Image.new("RGB", (width, sum(row[0].height for row in rows) + GAP), "white")
    for number, row in enumerate(rows):
        left = 0
        for picture in row:
            sheet.paste(picture, (left, number * (picture.height + GAP)))
            left += picture.width + GAP
    return sheet


if __name__ == "__main__":
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        sheet = composed([shot(browser, sys.argv[1].rstrip("/"), *asked) for asked in SHOTS])
    sheet.save(OUT, quality=76, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")
