"""The curve of each sample of program output, for chunks of any size."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.output_samples import SAMPLE_FOLDER, format_curve, read_curve, read_samples

ALL_SAMPLES = read_samples()
every_sample = pytest.mark.parametrize("sample", ALL_SAMPLES, ids=lambda sample: sample.name)


def split_data(data, cuts):
    """Return the data in chunks that end at the given positions."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def test_samples_declare_all_recorded_files():
    assert {sample.name for sample in ALL_SAMPLES} == {path.stem for path in SAMPLE_FOLDER.glob("*.txt")}
    origins = Counter(sample.origin for sample in ALL_SAMPLES)
    assert set(origins) == {"recorded", "constructed"}
    assert origins.total() >= 60
    assert origins["recorded"] >= 45


@every_sample
def test_sample_has_its_curve(sample):
    assert format_curve(read_curve([sample.data])) == sample.curve


@every_sample
def test_sample_in_single_bytes_has_its_curve(sample):
    chunks = [sample.data[index : index + 1] for index in range(len(sample.data))]
    assert format_curve(read_curve(chunks)) == sample.curve


@given(cuts=st.lists(st.integers(0, 1 << 20), max_size=30), sample=st.sampled_from(ALL_SAMPLES))
def test_curve_is_independent_of_chunks(cuts, sample):
    assert format_curve(read_curve(split_data(sample.data, cuts))) == sample.curve


@every_sample
def test_share_rises_within_a_phase_and_stays_below_1(sample):
    for _, group in itertools.groupby(read_curve([sample.data]), lambda state: state.phase):
        shares = [state.fraction for state in group]
        assert shares == sorted(shares)
        assert max(shares) < 1
