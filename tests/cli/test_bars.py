"""The screen of ``watch``: lines for items, at every width. Pure."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker._reader_clock import Clock
from progressbar_tracker._text import display_width, sanitize_line
from progressbar_tracker.cli.bars import ASCII_GLYPHS, Line, count_rows, describe_end, draw_bar, fit_rows, format_frame
from progressbar_tracker.server.models import rfc3339

NOON_SECONDS = 12 * 3600.0
LONG_ID = "nightly-import-" + "0123456789" * 6
IMPORT_ITEM = {
    "id": "nightly-import", "title": "Nightly import of all customers", "description": "reading rows", "weight": 0,
    "value": 0.42, "completed": 4_200_000_000, "total": 10_000_000_000, "unit": "B", "status": "running",
    "rate": 23_400_000.0, "started_at": rfc3339(NOON_SECONDS - 600), "updated_at": rfc3339(NOON_SECONDS),
    "eta": 1860.0, "finish_at": rfc3339(NOON_SECONDS + 1860), "heartbeat_timeout": 60.0,
}  # fmt: skip
FAILED_ITEM = {
    **IMPORT_ITEM, "id": "broken", "title": "Broken", "status": "failed", "error": "ValueError: bad row",
    "ended_at": rfc3339(NOON_SECONDS - 180), "eta": None, "finish_at": None,
}  # fmt: skip


def draw(items, columns, ended=()):
    """Return the texts of a frame with bars of ASCII."""
    return [line.text for line in format_frame(items, ended, NOON_SECONDS, Clock(UTC), columns, ASCII_GLYPHS)]


def test_frame_of_50_columns_has_two_lines_for_each_item():
    assert draw([IMPORT_ITEM, FAILED_ITEM], 50) == [
        "> Nightly import of all customers…  nightly-import",
        "  ########------------   42 %  ~31 min, 12:31",
        "x Broken: ValueError: bad row               broken",
        "  ########------------   42 %  failed 3 min ago",
    ]


def test_frame_of_80_columns_has_count_and_rate():
    assert draw([IMPORT_ITEM], 80) == [
        "> Nightly import of all customers: reading rows                   nightly-import",
        "  #############-------------------   42 %  ~31 min, 12:31  4.2 / 10.0 GB",
    ]


def test_frame_of_200_columns_is_a_table():
    heading, line = draw([IMPORT_ITEM], 200)
    assert heading.split() == ["STATUS", "BAR", "DONE", "COUNT", "RATE", "TIME", "TITLE", "ID"]
    assert line == (
        "> running  ########------------  42 %  4.2 / 10.0 GB  23.4 MB/s  ~31 min, 12:31  "
        "Nightly import of all customers: reading rows  nightly-import"
    )


@pytest.mark.parametrize("columns", [100, 139])
def test_frame_too_narrow_for_a_whole_table_has_two_lines(columns):
    """The status, the count, the rate, the time and the title of a table are never cut."""
    name, gauge = draw([IMPORT_ITEM], columns)
    assert "Nightly import of all customers: reading rows" in name
    assert gauge.endswith("42 %  ~31 min, 12:31  4.2 / 10.0 GB  23.4 MB/s")


def test_table_cuts_only_the_description():
    item = {**IMPORT_ITEM, "description": "reading rows of the second table"}
    _, line = draw([item], 150)
    assert display_width(line) == 150
    assert line.startswith(
        "> running  ########------------  42 %  4.2 / 10.0 GB  23.4 MB/s  ~31 min, 12:31  "
        "Nightly import of all customers: reading rows"
    )
    assert line.endswith("…  nightly-import")


def test_title_that_does_not_fit_into_a_table_has_two_lines():
    heading, *_ = draw([{**IMPORT_ITEM, "title": "Nightly import of all customers, orders and parcels"}], 145)
    assert not heading.startswith("STATUS")


def test_inner_bars_are_indented_below_their_parent():
    outer, inner = (
        {**IMPORT_ITEM, "description": ""},
        {**IMPORT_ITEM, "id": "file", "title": "File", "parent": "nightly-import"},
    )
    other = {**FAILED_ITEM, "title": ""}
    assert draw([outer, other, inner], 60) == [
        "> Nightly import of all customers             nightly-import",
        "  ##########--------------   42 %  ~31 min, 12:31  23.4 MB/s",
        "  > File: reading rows                                  file",
        "    #########-------------   42 %  ~31 min, 12:31  23.4 MB/s",
        "x broken: ValueError: bad row",
        "  ##########--------------   42 %  failed 3 min ago",
    ]
    _, outer_line, inner_line = draw([outer, inner], 200)
    assert inner_line.index("File") == outer_line.index("Nightly") + 2


def test_items_that_are_parents_of_each_other_are_all_shown():
    items = [{**IMPORT_ITEM, "id": "a", "parent": "b"}, {**IMPORT_ITEM, "id": "b", "parent": "a"}]
    assert len(draw(items, 80)) == 4


def test_title_that_is_the_id_is_shown_once():
    assert draw([{**IMPORT_ITEM, "title": "backup", "id": "backup"}], 50)[0] == "> backup: reading rows"


def test_id_that_is_wider_than_the_screen_is_whole():
    lines = draw([{**IMPORT_ITEM, "id": LONG_ID}], 50)
    assert lines[:2] == ["> Nightly import of all customers: reading rows", LONG_ID]


@given(
    st.text(min_size=1, max_size=200), st.text(max_size=200), st.text(max_size=300),
    st.sampled_from(["running", "failed", "succeeded"]), st.integers(20, 250),
)  # fmt: skip
def test_every_frame_has_whole_ids_and_fits(item_id, title, description, status, columns):
    item = {**IMPORT_ITEM, "id": item_id, "title": title, "description": description, "status": status}
    shown_id, lines = sanitize_line(item_id), draw([item], columns)
    assert any(shown_id in line for line in lines)
    for line in lines:
        assert (
            display_width(line) <= columns or line.removeprefix("x ").removeprefix("> ").removeprefix("+ ") == shown_id
        )


def test_ended_runs_are_below_the_items():
    run = {
        **FAILED_ITEM, "status": "stopped", "started_at": rfc3339(NOON_SECONDS - 483),
        "ended_at": rfc3339(NOON_SECONDS - 180),
    }  # fmt: skip
    assert draw([], 50, [run]) == ["", "Ended", "- broken  stopped after 5 min 3 s, 3 min ago"]


def test_end_of_a_failed_run_has_its_error():
    assert describe_end({**FAILED_ITEM, "started_at": None}) == "failed: ValueError: bad row"


@pytest.mark.parametrize(
    ("item", "bar"),
    [
        ({"value": 0.999}, "#########-"),
        ({"value": 1.0}, "##########"),
        ({"completed": 3, "total": None, "value": 0.0}, ".........."),
        ({"completed": 3, "total": None, "value": 0.0, "estimated_value": 0.35}, "###-------"),
        ({}, "----------"),
    ],
)
def test_bar_is_full_only_at_the_end(item, bar):
    assert draw_bar(item, 10, ASCII_GLYPHS) == bar


def test_lines_beyond_the_screen_are_counted():
    lines = [Line("a" * 60), Line("b"), Line("c"), Line("d")]
    assert [line.text for line in fit_rows(lines, 50, 4)] == ["a" * 60, "b", "... 2 more lines"]
    assert sum(count_rows(line.text, 50) for line in fit_rows(lines, 50, 4)) == 4
