"""The table of libraries agrees with the integrations, their tests and the installed packages."""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path

import pytest

import progressbar_tracker
from progressbar_tracker.integrations._imports import INTEGRATION_MODULES

from .hooks.libraries import BAR_LIBRARIES
from .library_table import LIBRARY_ROWS

TESTS_FOLDER = Path(__file__).parents[1]
PACKAGE_FOLDER = Path(progressbar_tracker.__file__).parent


def find_version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


each_row = pytest.mark.parametrize("row", LIBRARY_ROWS, ids=lambda row: row.package)


@each_row
def test_row_names_its_module_page_and_tests(row):
    assert importlib.util.find_spec(row.find_module()) is not None
    assert (PACKAGE_FOLDER / "handbook" / "how-to" / f"{row.find_page()}.md").is_file()
    assert (TESTS_FOLDER / row.find_tests()).is_file()


@pytest.mark.parametrize("row", [row for row in LIBRARY_ROWS if find_version(row.package)], ids=lambda row: row.package)
def test_declared_version_is_not_newer_than_the_installed_one(row):
    """A row that claims a version which the tests never ran with is wrong. Trainers are installed elsewhere."""

    def parse(version):
        return [int(number) for number in re.findall(r"\d+", version)]

    assert parse(row.version) <= parse(find_version(row.package))


def test_every_hooked_library_is_listed_under_run():
    listed = {row.find_module() for row in LIBRARY_ROWS if row.under_run}
    assert set(INTEGRATION_MODULES.values()) - listed == set()
    assert {library.package for library in BAR_LIBRARIES} <= {row.package for row in LIBRARY_ROWS if row.under_run}


def test_every_integration_is_listed():
    files = set((PACKAGE_FOLDER / "integrations").glob("[a-z]*.py"))
    files.remove(PACKAGE_FOLDER / "integrations" / "jupyter_server_proxy.py")  # opens the server, and shows no progress
    names = {f"progressbar_tracker.integrations.{path.stem}" for path in files}
    assert names - {row.find_module() for row in LIBRARY_ROWS} == set()


def test_rows_are_sorted_and_unique():
    packages = [row.package for row in LIBRARY_ROWS]
    assert packages == sorted(set(packages))
