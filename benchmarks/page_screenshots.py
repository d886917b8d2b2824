"""Pictures of the web page with a reading on it, for docs/serving.md: on a desk, in the dark, on a phone.

    python benchmarks/page_screenshots.py URL PICTURE OUT

URL is where `vizecg serve` answers; PICTURE a page of an ECG, of no real patient if the result is to be shown. Writes
page.png, page-dark.png and page-phone.png into OUT. Needs Chromium on the PATH, and the `dev` extra.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright


@dataclass(frozen=True)
class Look:
    """One screenshot."""

    name: str
    width_px: int
    height_px: int
    is_dark: bool = False
    is_phone: bool = False
    highlighted: bool = False

    @property
    def context(self) -> dict[str, Any]:
        """Options of a browser context."""
        return {
            "viewport": {"width": self.width_px, "height": self.height_px},
            "color_scheme": "dark" if self.is_dark else "light",
            "device_scale_factor": 2 if self.is_phone else 1,
            "has_touch": self.is_phone,
            "is_mobile": self.is_phone,
        }


LOOKS = (
    Look("page", 1280, 1330),
    Look("page-dark", 1280, 1330, is_dark=True, highlighted=True),
    Look("page-phone", 390, 1340, is_phone=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("neither chromium nor google-chrome is on the PATH; on Debian: apt install chromium")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for look in LOOKS:
            file = arguments.out / f"{look.name}.png"
            photograph(browser, look, arguments.url, arguments.picture, file)
            print(f"{file}: {file.stat().st_size / 1000:.0f} kB")
        browser.close()


def photograph(browser: Browser, look: Look, url: str, picture: Path, file: Path) -> None:
    """Have the picture read and write what is seen of the page then."""
    context = browser.new_context(**look.context)
    page = context.new_page()
    page.goto(url)
    page.set_input_files("#file", picture)
    page.wait_for_selector("#result:visible, #error:visible")
    if page.is_visible("#error"):
        raise SystemExit(page.inner_text("#error"))
    if look.highlighted:
        highlight(page)
    page.mouse.move(0, 0)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)  # Transitions and the thumbnail.
    page.screenshot(path=file)
    context.close()
    with Image.open(file) as image:
        # A palette is all that text and ECG paper need; k-means keeps the colours of small things.
        image.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE).save(file, optimize=True)


def highlight(page: Page) -> None:
    """What speaks for the first label; where a model cannot be explained the page is left as it is."""
    page.click("#labels .label")
    page.wait_for_selector("#figure:not([aria-busy])")


if __name__ == "__main__":
    main()
