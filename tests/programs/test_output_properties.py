"""Properties of the parser for any output: the same curve for any chunks, shares that rise and stay below 1."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker._programs.output_patterns import list_known_tools
from progressbar_tracker._programs.supervisor import _OutputProgress
from tests.support.output_samples import read_curve, read_samples

OUTPUT_PARTS = [
    "0%", "7%", "45 %", "99.5%", "100%", "[ 12%]", " 3/10 [", "4/10 ", "10/10 ", "5 of 10 parts", "12.3MB/45.6MB ",
    "Epoch 1/3", "Epoch 2/3", "Epoch [2/3], Step [5/10]", "Step 3/4", "10...", "0", "20", "Copying a", " 9/20",
    "Receiving objects:  45% (9/20)", "12 bytes (12 B) copied, 1 s", "a1b2c3d4e5f6: Pulling fs layer",
    "a1b2c3d4e5f6: Pull complete", "% used", "/", ".", " ", "\r", "\n", "\r\n", "\b", "\b\b\b", "\x1b[2K", "\x1b[1A",
    "\x1b[3D", "\x1b", "[", "|", "\u2588",
]  # fmt: skip
"""Parts that outputs consist of: readings, separators, and beginnings of both."""

EXAMPLE_TEXTS = [example for *_, example in list_known_tools()]
example_parts = st.tuples(st.sampled_from(EXAMPLE_TEXTS), st.integers(0, 40), st.integers(1, 80)).map(
    lambda part: part[0][part[1] :][: part[2]]
)
output_parts = st.lists(st.sampled_from(OUTPUT_PARTS) | example_parts, max_size=60)
outputs = output_parts.map(lambda parts: "".join(parts).encode())
cut_lists = st.lists(st.integers(0, 1000), max_size=20)


def split_output(data, cuts):
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def check_shares(states):
    """Check the states of a bar: within a phase the share rises, and it is below 1."""
    for _, group in itertools.groupby(states, lambda state: state.phase):
        shares = [state.fraction for state in group]
        assert shares == sorted(shares)
        assert max(shares) < 1


def read_displayed(chunks):
    """Return the states that the run of a program has, after each chunk."""
    run = SimpleNamespace(progress=None)
    reader = _OutputProgress(run).make_reader()
    states = []
    for chunk in chunks:
        reader(chunk)
        if run.progress is not None:
            states.append(run.progress)
    return states


@given(outputs, cut_lists)
def test_curve_of_any_output_is_independent_of_chunks(data, cuts):
    assert read_curve(split_output(data, cuts)) == read_curve([data])


@given(outputs)
def test_share_of_any_output_rises_and_stays_below_1(data):
    check_shares(read_curve([data]))


@given(outputs, cut_lists)
def test_displayed_share_rises_and_stays_below_1(data, cuts):
    check_shares(read_displayed(split_output(data, cuts)))


@given(st.sampled_from(read_samples()), cut_lists)
def test_displayed_share_of_samples_rises_and_stays_below_1(sample, cuts):
    check_shares(read_displayed(split_output(sample.data, [cut * 20 for cut in cuts])))


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_any_bytes_are_read(chunks):
    assert read_curve(chunks) == read_curve([b"".join(chunks)])
