"""The line in the summary of a step of GitHub Actions."""

from __future__ import annotations

import pytest

from progressbar_tracker._environments.github_summary import append_summary, format_summary


def test_failure_names_its_reason():
    assert format_summary("job", "exit code 3", 5.0, None) == "- job: **failed** after 5 s: exit code 3\n"


def test_title_cannot_leave_its_line_or_add_markup():
    line = format_summary("a](http://evil)<b>\n# x", None, 5.0, "http://server/items/x")
    assert line == "- [a\\]\\(http://evil\\)\\<b\\> \\# x](http://server/items/x): succeeded after 5 s\n"


def test_long_texts_are_cut():
    assert len(format_summary("x" * 10_000, "y" * 10_000, 5.0, None)) < 1000


def test_summary_is_appended(tmp_path):
    (tmp_path / "summary").write_text("before\n")
    append_summary({"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}, "line\n")
    assert (tmp_path / "summary").read_text() == "before\nline\n"


@pytest.mark.parametrize("environ", [{}, {"GITHUB_STEP_SUMMARY": "{file}", "PROGRESSBAR_ENVIRONMENT": "off"}])
def test_summary_without_a_step_or_turned_off_writes_nothing(tmp_path, environ):
    append_summary({name: text.format(file=tmp_path / "summary") for name, text in environ.items()}, "line\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["/dev/full", "/nonexistent/summary", "nul\0byte"])
def test_summary_that_cannot_be_written_is_ignored(path):
    append_summary({"GITHUB_STEP_SUMMARY": path}, "line\n")
