"""Copies of tqdm bars behave as those of stock tqdm do, and end nothing but themselves."""

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
    """Create a bar by the import or by the installed drop-in."""
    if request.param == "installed":
        dropin.install()
    yield BAR_MAKERS[request.param]
    dropin.uninstall()


@pytest.mark.parametrize("closed", [True, False])
def test_copy_of_bar_does_not_end_original(recorder, make_bar, closed):
    bar = make_bar()
    bar.update(1)
    other = copy.copy(bar)
    other.update(1)
    if closed:
        other.close()
    del other
    gc.collect()
    assert [(run.status, run.completed) for run in recorder] == [("running", 1)]
    bar.update(2)
    bar.close()
    assert [(run.status, run.completed) for run in recorder] == [("succeeded", 3)]


def test_copy_of_bar_works_like_tqdms(recorder, make_bar):
    bar, plain = make_bar(), stock(total=3, desc="job", file=io.StringIO())
    ours, theirs = copy.copy(bar), copy.copy(plain)
    with ours, theirs:
        for one in (ours, theirs):
            one.update(2)
        assert (ours.n, ours.total, ours.desc, ours.disable) == (theirs.n, theirs.total, theirs.desc, theirs.disable)
    assert (ours.disable, bar.disable, plain.disable) == (True, False, False)
    bar.close()
    plain.close()


def test_hidden_bar_can_be_copied_and_pickled(recorder):
    dropin.install()
    try:
        bar = stock(range(3), disable=None, file=io.StringIO())
        for other in (copy.copy(bar), copy.deepcopy(bar), pickle.loads(pickle.dumps(bar))):
            assert list(other) == [0, 1, 2]
            del other
        gc.collect()
        assert [(run.status, run.completed) for run in recorder] == [("running", 0)]
        assert list(bar) == [0, 1, 2]
        assert [(run.status, run.completed) for run in recorder] == [("succeeded", 3)]
    finally:
        dropin.uninstall()
