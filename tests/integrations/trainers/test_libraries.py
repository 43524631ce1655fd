"""``install()`` shows bars of libraries that import tqdm in their own way."""

from __future__ import annotations

import datasets
import pytest
from huggingface_hub.utils import tqdm as hub_tqdm

from progressbar_tracker.testing import recording
from progressbar_tracker.tqdm import install, uninstall


@pytest.fixture
def recorder():
    """Record the runs of this process, with the drop-in installed."""
    install()
    with recording() as record:
        yield record
    uninstall()


def final_states(recorded):
    return [(run.title, run.status, run.completed, run.total, run.error) for run in recorded]


def test_bars_of_datasets_are_shown_with_failure(recorder, capsys):
    rows = datasets.Dataset.from_dict({"a": list(range(100))})
    rows = rows.map(lambda row: {"b": row["a"] + 1}).filter(lambda row: row["a"] > 3)
    with pytest.raises(ZeroDivisionError):
        rows.map(lambda row: {"c": 1 / 0})
    assert final_states(recorder) == [
        ("Map", "succeeded", 100, 100, None),
        ("Filter", "succeeded", 100, 100, None),
        ("Map", "failed", 0, 96, "ZeroDivisionError: division by zero"),
    ]


def test_bars_of_huggingface_hub_are_shown(recorder, capsys):
    for _ in hub_tqdm(range(3), desc="model.safetensors"):
        pass
    assert final_states(recorder) == [("model.safetensors", "succeeded", 3, 3, None)]
