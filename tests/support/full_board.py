"""A server with the content that is difficult to show: every state, long and hostile texts, and both directions."""

from __future__ import annotations

from urllib.parse import quote

from tests.support.browser_site import BrowserServer

FAILED_ID = "jobs/nightly export"
PARENT_ID = "train"
ERROR_TEXT = "\n".join(
    [
        "Traceback (most recent call last):",
        *(
            f'  File "/srv/application/pipelines/a_long_name_of_a_module_{n}.py", line {n}, in load_everything_there_is'
            for n in range(14)
        ),
        "OSError: [Errno 28] No space left on device: '/srv/data/" + "x" * 200 + "'",
    ]
)
ITEM_TITLES = {
    "arabic": "مرحبا بالعالم: تحميل الملفات",
    "override": "\u202e<b>gnp.exe",
    "markup": '<img src=x onerror="alert(1)">',
    "wide": "W" * 200,
    "emoji": "👩\u200d🚀 " * 20,
    "words": "Import of everything that the archive of the last forty years has " * 3,
}


def open_full_site(folder) -> BrowserServer:
    """Serve a board in which every condition occurs, a history, shares and channels."""
    channels = folder / "channels.toml"
    channels.write_text(
        f'[channels.team]\nurl = "http://127.0.0.1:9/?VerySecret"\nallow_private = true\ngroups = ["{"g" * 100}"]\n'
        f'[channels.{"x" * 64}]\nurl = "https://{"a" * 60}.example.org/"\nall = true\non = ["late"]\n'
    )
    site = BrowserServer(folder, channels=channels)
    fill_site(site)
    return site


def fill_site(site: BrowserServer) -> None:
    """Create the items; run an id several times, so that it has a history."""
    for n in range(6):
        status = "failed" if n == 3 else "succeeded"
        error = ERROR_TEXT if status == "failed" else None
        site.put(FAILED_ID, title="Nightly export", total=10, completed=10, unit="files", group="etl", run_id=f"r{n}",
                 status=status, error=error)  # fmt: skip
        site.delete(FAILED_ID)
    site.put(FAILED_ID, title="Nightly export", total=10, completed=4, unit="files", group="etl", run_id="last",
             meta={"host": "box-7", "m" * 50: "n" * 200})  # fmt: skip
    site.patch(FAILED_ID, completed=7, status="failed", error=ERROR_TEXT)
    for name, schedule in {
        "usual": {"every": 3600}, "y" * 200: {"cron": "0 3 * * *", "timezone": "America/Argentina/ComodRivadavia"},
        "<b>\u202eevil": {"cron": "0 3 * * *", "notify": ["x" * 64] * 8},
    }.items():  # fmt: skip
        site.http.put(f"/api/v1/schedules/{quote(name, safe='')}", json=schedule).raise_for_status()
    for name in ("cron of box-7", "x" * 100):
        body = {"name": name, "group": "g" * 200}
        site.http.post("/api/v1/ping-tokens", json=body, headers=site.admin).raise_for_status()
    site.put("usual", title="Import", total=2_000_000, completed=500_000, unit="files", group="etl", meta={"host": "a"})
    site.patch("usual", completed=600_000, description="a description " * 20)
    site.put("stuck", title="Reindex", total=9, completed=1, group="etl", stuck_after=0.001)
    site.put("silent", title="Silent", heartbeat_timeout=0, group="etl")
    site.put("late", title="Backup", value=0.2, deadline="2020-01-01T00:00:00Z", group="backups")
    site.put("open", title="Crawl", completed=10**14, unit="u" * 20, group="g" * 200)
    site.put("done", title="Done", status="succeeded", value=1)
    site.put("halted", title="Halted", status="stopped", value=0.3)
    site.put(PARENT_ID, title="Training", total=3, completed=1, unit="epochs", group="models")
    for n in range(3):
        site.put(f"epoch {n}", title=f"Epoch {n}", total=100, completed=40, parent=PARENT_ID, group="models")
    for item_id, title in ITEM_TITLES.items():
        site.put(item_id, title=title, description=title, value=0.5, group=title[:50], parent="open")
        site.put(f"{item_id} failed", title=title, status="failed", error=title)
        site.delete(f"{item_id} failed")


def create_page_urls(site: BrowserServer) -> dict[str, tuple[str, str]]:
    """Return the pages of a full site by name: the pattern of the route, and a relative URL."""
    group_share = site.create_share(group="etl")
    failed, parent = quote(FAILED_ID, safe=""), quote(PARENT_ID)
    return {
        "board": ("/", ""),
        "board of a group": ("/", "?group=etl"),
        "board without a match": ("/", "?q=nothing-has-this-text"),
        "board on a screen": ("/", "?tv"),
        "item that runs": ("/items/{id:path}", "items/usual"),
        "item that failed": ("/items/{id:path}", f"items/{failed}"),
        "item with children": ("/items/{id:path}", f"items/{parent}"),
        "item with hostile texts": ("/items/{id:path}", "items/override"),
        "former run": ("/items/{id:path}", f"items/{failed}?run=r3"),
        "unknown item": ("/items/{id:path}", "items/unknown"),
        "today": ("/today", "today"),
        "today on a screen": ("/today", "today?tv"),
        "history": ("/history", "history"),
        "history without a match": ("/history", "history?q=nothing-has-this-text"),
        "schedules": ("/schedules", "schedules"),
        "schedule that is changed": ("/schedules", "schedules?id=usual&set=usual"),
        "keys": ("/keys", "keys"),
        "channels": ("/channels", "channels"),
        "documentation": ("/docs", "docs"),
        "handbook": ("/handbook", "handbook"),
        "page of the handbook": ("/handbook/{part}/{page}", "handbook/reference/errors"),
        "problem": ("/problems/{code}", "problems/run-superseded"),
        "sign-in": ("/login", "login"),
        "used sign-in link": ("/auth/{token}", "auth/unknown"),
        "shared group": ("/s/{token}", group_share),
        "shared timeline": ("/s/{token}/today", f"{group_share}/today"),
        "shared failure": ("/s/{token}", site.create_share(item=FAILED_ID)),
    }
