"""Copies of bars behave like those of stock tqdm and end only themselves."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest
from tqdm import tqdm as stock

from progressbar_tracker import tqdm as dropin

BAR_MAKERS = {
    "drop-in": lambda **options: dropin.tqdm(total=3, desc="job", file=io.StringIO(), **options),
    "installed": lambda **options: stock(total=3, desc="job", file=io.StringIO(), **options),
    "mirrored": lambda **options: dropin.mirror(stock(total=3, desc="job", file=io.StringIO(), **options)),
}


@pytest.fixture(params=BAR_MAKERS)
def make_bar(request):
    """Return a bar of the import or of the installed drop-in."""
    if request.param == "installed":
        dropin.install()
    yield BAR_MAKERS[request.param]
    dropin.uninstall()


@pytest.mark.parametrize("closed", [True, False])
def test_copy_of_bar_does_not_end_original(recorder, make_bar, closed):
    bar = make_bar()
    bar.update(1)
    duplicate = copy.copy(bar)
    duplicate.update(1)
    if closed:
        duplicate.close()
    del duplicate
    gc.collect()
    assert [(run.status, run.completed) for run in recorder] == [("running", 1)]
    bar.update(2)
    bar.close()
    assert [(run.status, run.completed) for run in recorder] == [("succeeded", 3)]


def test_copy_of_bar_works_like_tqdms(recorder, make_bar):
    bar, stock_bar = make_bar(), stock(total=3, desc="job", file=io.StringIO())
    bar_copy, stock_copy = copy.copy(bar), copy.copy(stock_bar)
    with bar_copy, stock_copy:
        for bar_or_stock in (bar_copy, stock_copy):
            bar_or_stock.update(2)
        assert (bar_copy.n, bar_copy.total, bar_copy.desc, bar_copy.disable) == (
            stock_copy.n,
            stock_copy.total,
            stock_copy.desc,
            stock_copy.disable,
        )
    assert (bar_copy.disable, bar.disable, stock_bar.disable) == (True, False, False)
    bar.close()
    stock_bar.close()


def test_hidden_bar_can_be_copied_and_pickled(recorder):
    dropin.install()
    try:
        bar = stock(range(3), disable=None, file=io.StringIO())
        for duplicate in (copy.copy(bar), copy.deepcopy(bar), pickle.loads(pickle.dumps(bar))):
            assert list(duplicate) == [0, 1, 2]
            del duplicate
        gc.collect()
        assert [(run.status, run.completed) for run in recorder] == [("running", 0)]
        assert list(bar) == [0, 1, 2]
        assert [(run.status, run.completed) for run in recorder] == [("succeeded", 3)]
    finally:
        dropin.uninstall()
