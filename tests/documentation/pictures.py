"""Make the pictures of the README: ``python -m tests.documentation.pictures``, also by ``nox -s pictures``.

The items, the clock, the language and the time zone are fixed, so the pictures differ only if a page or a font does.
The clock of the server is moved by hand through two weeks of jobs, so that there are curves, estimates and a history.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, NamedTuple

from playwright.sync_api import sync_playwright

from progressbar_tracker.server import services
from progressbar_tracker.server.maintenance import Maintenance
from tests.support.browser_site import BrowserServer
from tests.support.clock import ManualClock

PICTURES_FOLDER = Path(__file__).parents[2] / "examples" / "screens"
NOW = datetime(2026, 11, 27, 14, 40, tzinfo=UTC)
HISTORY_DAYS = 12
UPDATE_COUNT = 8
"""Updates of a former run."""

CAREFUL_MINUTES = 25
CHECK_SECONDS = 5
"""In the last minutes, the clock moves by this step. The server takes a larger one for a pause in which it was asleep,
and restarts the time until an item is stuck."""

ERROR_TEXT = """Traceback (most recent call last):
  File "/srv/jobs/invoices.py", line 212, in export
    send(batch, timeout=30)
  File "/srv/jobs/transport.py", line 48, in send
    raise ConnectionError(f"{host} closed the connection after {count} invoices")
ConnectionError: billing.internal closed the connection after 1,204 invoices"""


class Job(NamedTuple):
    """A job that runs every day.

    Attributes:
        start: The minute of the day.
        minutes: The typical duration.
    """

    item_id: str
    title: str
    group: str
    start: int
    minutes: float
    total: int
    unit: str
    failing_days: tuple[int, ...] = ()


DAILY_JOBS = [
    Job("backup-db", "Back up the database", "backups", 30, 25, 84_000_000_000, "B"),
    Job("nightly-import", "Nightly import", "etl", 90, 42, 1_204_000, "rows", (5,)),
    Job("evaluate", "Evaluate the models", "models", 180, 80, 9_600, "images"),
    Job("rebuild-search", "Rebuild the search index", "etl", 240, 55, 310_000, "documents", (8, 9)),
    Job("morning-report", "Morning report", "reports", 420, 6, 48, "pages"),
    Job("thumbnails", "Thumbnails", "media", 500, 14, 2_400, "images"),
    Job("sync-crm", "Sync the CRM", "etl", 570, 30, 18_000, "contacts"),
    Job("encode", "Encode the videos", "media", 600, 190, 260_000_000_000, "B"),
    Job("import-orders", "Import the orders", "etl", 852, 46, 480_000, "rows", (3,)),
    Job("train-vision", "Train the vision model", "models", 940, 370, 60, "epochs", (4, 7)),
]
LATE_TODAY = {"sync-crm", "encode"}
"""Jobs that have started later than usual today, and still run."""


class ManualMaintenance(Maintenance):
    """Maintenance that runs when it is asked to, so that each run sees the same items."""

    loop: ClassVar[asyncio.AbstractEventLoop]

    async def run(self) -> None:
        type(self).loop = asyncio.get_running_loop()
        await asyncio.Event().wait()

    async def step(self) -> None:
        self.run_once()
        await self._services.unit_of_work.commit([])
        await self.load_former_runs()


class Board:
    """A server whose clock is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self._clock = ManualClock((NOW - timedelta(days=HISTORY_DAYS)).replace(hour=0, minute=0).timestamp())
        self._site = BrowserServer(folder, clock=self._clock)
        self.background = self._site.background

    def close(self) -> None:
        self._site.close()

    def move_to(self, instant: datetime) -> None:
        """Set the clock, and let the server react."""
        self._clock.now = max(self._clock.now, instant.timestamp())
        step = self.background.app.maintenance.step()
        asyncio.run_coroutine_threadsafe(step, ManualMaintenance.loop).result(60)

    def put(self, item_id: str, **fields: object) -> None:
        self._site.put(item_id, **fields)

    def patch(self, item_id: str, **fields: object) -> None:
        self._site.patch(item_id, **fields)

    def delete(self, item_id: str) -> None:
        self._site.delete(item_id)


def run_history(board: Board) -> None:
    """Run the jobs of the days before, and those of the day that have ended."""
    chance = random.Random(16)
    for day in range(HISTORY_DAYS, -1, -1):
        midnight = (NOW - timedelta(days=day)).replace(hour=0, minute=0)
        for job in DAILY_JOBS:
            start = midnight + timedelta(minutes=job.start + chance.uniform(0, 4))
            duration = timedelta(minutes=job.minutes * chance.uniform(0.85, 1.2))
            if start + duration < NOW and not (day == 0 and job.item_id in LATE_TODAY):
                run_job(board, job, start, duration, has_failed=day in job.failing_days)


def run_job(board: Board, job: Job, start: datetime, duration: timedelta, *, has_failed: bool) -> None:
    total = round(job.total * (1 - start.day % 5 / 40))
    end = 0.7 if has_failed else 1.0
    board.move_to(start)
    board.put(job.item_id, title=job.title, group=job.group, total=total, completed=0, unit=job.unit,
              run_id=f"{job.item_id}-{start:%m%d}")  # fmt: skip
    for n in range(1, UPDATE_COUNT + 1):
        share = n / UPDATE_COUNT * end
        board.move_to(start + duration * share)
        board.patch(job.item_id, completed=round(total * share**1.15))
    if has_failed:
        board.patch(job.item_id, status="failed", error="TimeoutError: no answer from db-2.internal within 30 s")
    else:
        board.patch(job.item_id, completed=total, status="succeeded")
    board.move_to(start + duration + timedelta(seconds=30))
    board.delete(job.item_id)


class CurrentJob(NamedTuple):
    """A job that has started before now.

    Attributes:
        minutes: The minutes since its start.
        goal: The count that it has reached now.
        silent_minutes: The minutes without an update.
        fields: Further fields of the item.
    """

    item_id: str
    minutes: int
    goal: int
    fields: dict[str, object]
    silent_minutes: int = 0


CURRENT_JOBS = [
    CurrentJob("train-vision", 214, 34, {
        "title": "Train the vision model", "group": "models", "total": 60, "unit": "epochs",
        "description": "loss 0.213, accuracy 94.1 %", "meta": {"host": "gpu-2", "commit": "8f3c1e0"},
    }),
    CurrentJob("train-vision/epoch", 4, 762, {
        "title": "Epoch 35", "group": "models", "parent": "train-vision", "total": 1_250, "unit": "batches",
    }),
    CurrentJob("encode", 214, 166_000_000_000, {
        "title": "Encode the videos", "group": "media", "total": 260_000_000_000, "unit": "B",
    }),
    CurrentJob("import-orders", 27, 247_000, {
        "title": "Import the orders", "group": "etl", "total": 476_000, "unit": "rows",
        "description": "orders of 26 November",
    }),
    CurrentJob("crawl-shops", 96, 12_480, {
        "title": "Crawl the shops", "group": "web", "unit": "pages",
        "description": "https://shop.example.org/catalogue/lamps",
    }),
    CurrentJob("sync-crm", 52, 15_840, {
        "title": "Sync the CRM", "group": "etl", "total": 18_000, "unit": "contacts",
        "deadline": "2026-11-27T14:15:00Z",
    }),
    CurrentJob("backup-media", 80, 214_000_000_000, {
        "title": "Back up the media", "group": "backups", "total": 310_000_000_000, "unit": "B", "stuck_after": 600,
    }, silent_minutes=22),
    CurrentJob("sensor-feed", 120, 43_632, {
        "title": "Sensor feed", "group": "web", "total": 86_400, "unit": "readings", "heartbeat_timeout": 300,
    }, silent_minutes=19),
    CurrentJob("invoices", 60, 1_204, {
        "title": "Export the invoices", "group": "reports", "total": 2_900, "unit": "invoices",
    }, silent_minutes=48),
    CurrentJob("previews", 21, 640, {
        "title": "Previews of the catalogue", "group": "media", "total": 640, "unit": "images",
    }, silent_minutes=6),
]  # fmt: skip
JOB_ENDS = {
    "invoices": {"status": "failed", "error": ERROR_TEXT},
    "previews": {"status": "succeeded"},
    "backup-media": {"description": "waits for the lock of the archive"},
}
"""The last changes of jobs that no longer count."""


def run_today(board: Board) -> None:
    """Start the current jobs, and update them each minute until now."""
    for left in range(CURRENT_JOBS[0].minutes, -1, -1):
        now = NOW - timedelta(minutes=left)
        for second in range(60 - CHECK_SECONDS, -1, -CHECK_SECONDS) if left < CAREFUL_MINUTES else (0,):
            board.move_to(now - timedelta(seconds=second))
        for job in CURRENT_JOBS:
            passed = (job.minutes - left) / (job.minutes - job.silent_minutes)
            if passed == 0:
                board.put(job.item_id, completed=0, run_id=f"{job.item_id}-today", **job.fields)
            elif 0 < passed <= 1:
                board.patch(job.item_id, completed=round(job.goal * passed))
                if passed == 1 and job.item_id in JOB_ENDS:
                    board.patch(job.item_id, **JOB_ENDS[job.item_id])


class Picture(NamedTuple):
    """A page, the size of the screen and the theme."""

    name: str
    path: str
    size: tuple[int, int]
    theme: str


README_PICTURES = [
    Picture("board-light", "", (1280, 800), "light"),
    Picture("board-dark", "", (1280, 800), "dark"),
    Picture("board-phone", "", (390, 800), "light"),
    Picture("item-light", "items/import-orders", (1280, 900), "light"),
    Picture("today-light", "today", (1280, 620), "light"),
]


def take_pictures(board: Board, folder: Path) -> None:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--lang=en-GB"])
        for picture in README_PICTURES:
            width, height = picture.size
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=picture.theme, locale="en-GB",
                timezone_id="UTC", reduced_motion="reduce", is_mobile=width < 600,
            )  # fmt: skip
            with contextlib.closing(context):
                context.request.get(board.background.create_sign_in_url())
                page = context.new_page()
                page.clock.set_fixed_time(NOW)
                page.goto(f"{board.background.url}/{picture.path}")
                page.wait_for_timeout(2000)  # a script for a person, not a test: fonts, requests and layout are done
                page.screenshot(path=folder / f"{picture.name}.png")
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PICTURES_FOLDER, help="where the pictures are written")
    folder = parser.parse_args().folder
    services.Maintenance = ManualMaintenance
    with tempfile.TemporaryDirectory(prefix="progressbar-pictures-") as data_folder:
        board = Board(Path(data_folder))
        with contextlib.closing(board):
            run_history(board)
            run_today(board)
            take_pictures(board, folder)


if __name__ == "__main__":
    main()
