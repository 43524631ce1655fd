"""Render the icons of the dashboard from its mark, and a badge for the README: ``python .ci/icons.py``.

Run it after each change of ``icon.svg`` or of the badge.

The mark is a letter P whose bowl is a ring, three quarters complete, around the pupil of an eye: progress and watch.
"""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, sync_playwright

from progressbar_tracker.server.dashboard.badge import build_item_badge
from progressbar_tracker.server.dashboard.templates import render_template
from progressbar_tracker.server.items.serializer import ItemSerializer
from progressbar_tracker.server.models import Item

PROJECT_ROOT = Path(__file__).parents[1]
STATIC_FOLDER = PROJECT_ROOT / "src/progressbar_tracker/server/dashboard/static"
BADGE_FILE = PROJECT_ROOT / "examples/screens/badge.svg"
MARK_COLOUR = "#2f7fdc"
"""Visible on light and dark tab bars: an icon in a bitmap does not follow the theme."""
TILE_COLOUR = "#174a8c"
FAVICON_SIZES = (16, 32, 48)


class Icon(NamedTuple):
    """A bitmap of the mark.

    Attributes:
        size: The width and height in pixels.
        scale: The share of the width that the mark takes.
        radius: The corner radius of the tile behind it, as a share of the width; ``None`` without a tile.
    """

    size: int
    scale: float = 1.0
    radius: float | None = None


ICON_FILES = {
    "icon-192.png": Icon(192, 0.66, 0.22),
    "icon-512.png": Icon(512, 0.66, 0.22),
    # Systems cut a shape out of these: the mark stays within the middle 80 percent.
    "icon-maskable-512.png": Icon(512, 0.52, 0),
    "apple-touch-icon.png": Icon(180, 0.62, 0),
}


def render_icon(browser: Browser, mark: str, icon: Icon) -> bytes:
    """Return an icon as a PNG."""
    size, colour = icon.size, MARK_COLOUR if icon.radius is None else "#fff"
    tile = "" if icon.radius is None else f"background: {TILE_COLOUR}; border-radius: {icon.radius * size}px"
    page = browser.new_page(viewport={"width": size, "height": size})
    page.set_content(
        f"<style>* {{ margin: 0 }} div {{ display: grid; place-items: center; height: 100vh; {tile} }}"
        f" div > svg {{ color: {colour} !important; width: {icon.scale * 100}% }}</style><div>{mark}</div>"
    )
    png = page.screenshot(omit_background=True)
    page.close()
    return png


def build_favicon(pngs: list[bytes]) -> bytes:
    """Return an ICO file of PNGs."""
    offset = 6 + 16 * len(pngs)
    entries = b""
    for size, png in zip(FAVICON_SIZES, pngs, strict=True):
        entries += struct.pack("<BBBBHHII", size, size, 0, 0, 1, 32, len(png), offset)
        offset += len(png)
    return struct.pack("<HHH", 0, 1, len(pngs)) + entries + b"".join(pngs)


def render_badge() -> bytes:
    """Return the badge of an item that is two thirds done."""
    item = Item(id="etl", owner_id="o", owner="ci", run_id="r", created_at=0.0, updated_at=0.0, title="Nightly import",
                completed=66, total=100, value=0.66)  # fmt: skip
    return render_template("badge.jinja", badge=build_item_badge("etl", ItemSerializer().serialize_item(item, 0.0)))


def main() -> None:
    """Write the icons and the badge."""
    BADGE_FILE.write_bytes(render_badge())
    mark = (STATIC_FOLDER / "icon.svg").read_text("utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, icon in ICON_FILES.items():
            (STATIC_FOLDER / name).write_bytes(render_icon(browser, mark, icon))
        pngs = [render_icon(browser, mark, Icon(size)) for size in FAVICON_SIZES]
        (STATIC_FOLDER / "favicon.ico").write_bytes(build_favicon(pngs))
        browser.close()


if __name__ == "__main__":
    main()
