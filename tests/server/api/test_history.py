"""The history: its exports, its filters, and the shell of its page."""

from __future__ import annotations

import csv
import io
import sqlite3
import sys
import unicodedata
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressbar_tracker.server.api import history, history_exports
from progressbar_tracker.server.models import EndedRun, Item
from progressbar_tracker.server.mutations import AddHistory
from progressbar_tracker.server.stores.base import HistoryFilter
from progressbar_tracker.server.stores.sqlite.migrations import MIGRATIONS
from progressbar_tracker.server.stores.sqlite.store import SqliteStore
from tests.support.clock import START_TIME

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from tests.support.server import RunningServer


def make_item(item_id: str, **fields: object) -> Item:
    return Item(**{"id": item_id, "owner_id": "k", "owner": "ci", "run_id": "r", "created_at": START_TIME,
    "updated_at": START_TIME,
                   **fields})  # fmt: skip


@pytest.fixture(scope="module")
def history_server(module_server: RunningServer) -> RunningServer:
    """A history of seven runs."""
    runs = [
        EndedRun(make_item("a/1", title="Import <b>", group="g"), "succeeded", START_TIME + 65),
        EndedRun(
            make_item("=1+1", title="@sum", error="-2+3\nsecond line", meta={"host": "+h"}), "failed", START_TIME + 1
        ),
        EndedRun(make_item("straße", title="ΣΊΣΥΦΟΣ", completed=-5, total=None), "stopped", START_TIME + 2),
        *(
            EndedRun(make_item(f"run-{n}", group="many", value=0.5), "succeeded", START_TIME + 100 + n)
            for n in range(4)
        ),
    ]
    module_server.background.store.commit([AddHistory(run) for run in runs]).result(60)
    return module_server


@pytest.fixture(scope="module")
def browser(history_server: RunningServer) -> httpx.Client:
    """A signed-in client of the server with history."""
    return history_server.browser()


def find_titles(browser: httpx.Client, query: str) -> list[str]:
    return [run["title"] or run["id"] for run in browser.get(f"/api/v1/history.json?{query}").json()["items"]]


def test_history_has_each_end_newest_first(browser: httpx.Client) -> None:
    assert find_titles(browser, "") == ["run-3", "run-2", "run-1", "run-0", "ΣΊΣΥΦΟΣ", "@sum", "Import <b>"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("group=g", ["Import <b>"]),
        ("status=failed", ["@sum"]),
        ("q=IMPORT", ["Import <b>"]),
        ("q=a%2F1", ["Import <b>"]),
        ("q=STRASSE", ["ΣΊΣΥΦΟΣ"]),
        ("q=σίσυφοσ", ["ΣΊΣΥΦΟΣ"]),
        ("q=%25", []),
        ("id=run-1&q=&group=&status=", ["run-1"]),
    ],
)
def test_history_filter_finds_matching_runs(browser: httpx.Client, query: str, found: list[str]) -> None:
    assert find_titles(browser, query) == found


def test_history_page_is_a_shell_that_names_the_exports(browser: httpx.Client) -> None:
    page = browser.get("/history?q=anything&status=fine&after=-1")
    assert page.status_code == 200
    for text in ('href="api/v1/history.csv"', 'href="api/v1/history.json"', "<noscript>", "<option>succeeded</option>"):
        assert text in page.text, text


def test_invalid_status_or_cursor_is_refused(browser: httpx.Client) -> None:
    assert browser.get("/api/v1/history?after=-1").status_code == 422
    assert browser.get("/api/v1/history.csv?status=fine").status_code == 422


def test_csv_export_has_every_run_and_no_formula(
    history_server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_HISTORY_PAGE", 2)  # several pages
    reply = history_server.client("read").get("/api/v1/history.csv")
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert reply.headers["Content-Disposition"] == 'attachment; filename="history.csv"'
    rows = list(csv.DictReader(io.StringIO(reply.text, newline="")))
    assert [row["id"] for row in rows] == ["run-3", "run-2", "run-1", "run-0", "straße", "'=1+1", "a/1"]
    assert rows[5] | {"title": "'@sum", "error": "'-2+3\nsecond line", "host": "'+h"} == rows[5]
    assert (rows[4]["completed"], rows[6]["seconds"]) == ("-5", "65.0")
    assert rows[6]["ended_at"] == "2027-01-15T08:01:05.000Z"
    assert len(history_server.client("read").get("/api/v1/history.csv?group=many&q=&status=").text.splitlines()) == 5


# Invisible characters: separators, format and control characters, marks, and letters without a shape.
INVISIBLE_CHARACTERS: Final = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) in {"Zs", "Zl", "Zp", "Cf", "Cc"}
    or character in "\u034f\u115f\u1160\u3164\uffa0"
]
FORMULA_SIGNS: Final = "=+-@\uff1d\uff0b\uff0d\uff20\u2212\ufe62\ufe63\ufe66\ufe6b"
CSV_DELIMITERS: Final = ",;\t"


def find_formulas(row: tuple[object, ...]) -> list[str]:
    """Return the cells that begin with a formula, for readers with other separators."""
    text = history_exports._encode_cells(row).decode()
    cells = [
        one
        for delimiter in CSV_DELIMITERS
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for one in line
    ]
    skipped = "".join(INVISIBLE_CHARACTERS) + '"'
    return [one for one in cells if one.lstrip(skipped).startswith(tuple(FORMULA_SIGNS))]


@pytest.mark.parametrize("sign", FORMULA_SIGNS)
def test_csv_cell_never_begins_with_formula(sign: str) -> None:
    begins = [
        "",
        *INVISIBLE_CHARACTERS,
        '"',
        '" "',
        "a;",
        "a; ",
        "a\t",
        "a\n",
        "a\r\n",
        "a;\t",
        'a;"',
        'a;""',
        "a|",
        "\ufeff\u200b ",
    ]
    begins += [f"a;{unseen}" for unseen in INVISIBLE_CHARACTERS]
    for begin in begins:
        assert find_formulas(("id", f"{begin}{sign}1+1", "end")) == [], ascii(begin)
        assert find_formulas((f"{begin}{sign}1+1", f"a{begin}{sign}1", f"{begin}{sign}1")) == [], ascii(begin)


@given(
    st.lists(
        st.text(
            st.sampled_from(
                [
                    *FORMULA_SIGNS,
                    *CSV_DELIMITERS,
                    *"\"'\r\n |a1",
                    *INVISIBLE_CHARACTERS[:80],
                    *INVISIBLE_CHARACTERS[-40:],
                ]
            )
        ),
        min_size=1,
    )
)
@settings(max_examples=500)
def test_csv_has_no_formula_for_any_separator(row: list[str]) -> None:
    assert find_formulas(tuple(row)) == []


@pytest.mark.parametrize(
    "value", [-5, 0.5, -1e300, "run-1", "a - b", "a,-5", "(-5)", "x=1", "Stra\u00dfe", "\u00fc", "", "a;b"]
)
def test_harmless_cell_is_unchanged(value: object) -> None:
    assert history_exports.escape_cell(value) == value


def test_long_cell_is_escaped_in_linear_time() -> None:
    """A lookahead that restarted at each position would take minutes."""
    for text in ("\t" * 200_000, ";" * 200_000, "; " * 100_000, "\u00a0" * 200_000, '"' * 200_000):
        assert history_exports.escape_cell(text) == text


def test_json_export_equals_pages(history_server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    http = history_server.client("read")
    listed = http.get("/api/v1/history?limit=1000").json()
    monkeypatch.setattr(history, "MAX_HISTORY_PAGE", 3)
    reply = http.get("/api/v1/history.json")
    assert reply.json() == listed
    assert len(listed["items"]) == 7
    assert http.get("/api/v1/history.json?group=nobody").json() == {"items": []}
    assert [run["id"] for run in http.get("/api/v1/history?q=SUM&limit=3").json()["items"]] == ["=1+1"]
    assert [run["id"] for run in http.get("/api/v1/history?id=run-2").json()["items"]] == ["run-2"]


def test_signed_out_page_redirects_from_any_depth(module_server: RunningServer) -> None:
    assert module_server.client().get("/history").headers["Location"] == "login?next=history"


# Files of older versions


def make_schema_1_file(path: Path) -> None:
    """Write a file with schema 1."""
    made = sqlite3.connect(path)
    for statement in MIGRATIONS[0]:
        made.execute(statement)
    made.execute("PRAGMA user_version = 1")
    made.execute("PRAGMA application_id = 0x70627431")
    state = (
        '{"id":"old","owner_id":"k","owner":"ci","run_id":"r1","created_at":1.0,"updated_at":2.0,"title":"An old one"}'
    )
    made.execute(
        """INSERT INTO history (id, "group", status, ended_at, state) VALUES ('old', 'g', 'failed', 2.5, ?)""", (state,)
    )
    made.execute("INSERT INTO items VALUES ('old', ?)", (state,))
    made.execute("INSERT INTO sessions VALUES ('hash', 1.0, 2.0)")
    made.commit()
    made.close()


def test_schema_1_file_is_migrated_without_loss(tmp_path: Path) -> None:
    make_schema_1_file(tmp_path / "p.db")
    store = SqliteStore(tmp_path / "p.db")
    try:
        loaded = store.load()
        assert [item.title for item in loaded.items] == ["An old one"]
        assert (loaded.sampled_runs, loaded.shares) == ([], [])
        assert [session.hash for session in loaded.sessions] == ["hash"]
        assert [(row.item.id, row.status) for row in store.read_history(HistoryFilter(text="old ONE"))] == [
            ("old", "failed")
        ]
        assert [row.item.id for row in store.read_history(HistoryFilter(id="old"))] == ["old"]
    finally:
        store.close()
