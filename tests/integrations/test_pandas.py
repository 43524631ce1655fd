"""``read_csv`` with a bar of bytes, and ``progress_apply`` of the drop-in."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import threading
import tracemalloc

import pandas as pd
import pytest

from progressbar_tracker.integrations.pandas import read_csv
from progressbar_tracker.tqdm import tqdm

ROW_COUNT = 20_000


@pytest.fixture(scope="module")
def csv_folder(tmp_path_factory):
    """A folder with one table in all formats."""
    folder = tmp_path_factory.mktemp("csv")
    table = pd.DataFrame({"number": range(ROW_COUNT), "text": ["some text that takes its room"] * ROW_COUNT})
    for ending in ("", ".gz", ".bz2", ".xz", ".zip", ".tar", ".tar.gz"):
        table.to_csv(folder / f"rows.csv{ending}", index=False)
    return folder


def final_state(recorded):
    run = recorded.runs[-1]
    return run.status, run.completed, run.total, run.unit, run.error


def test_read_csv_returns_table_with_exact_count(recorder, csv_folder):
    path = csv_folder / "rows.csv"
    table = read_csv(path, id="x", usecols=["number"])
    assert table.equals(pd.read_csv(path, usecols=["number"]))
    assert final_state(recorder) == ("succeeded", path.stat().st_size, path.stat().st_size, "B", None)
    assert recorder["x"].title == "rows.csv"


def test_bar_moves_with_chunks(recorder, csv_folder):
    path = csv_folder / "rows.csv"
    size = path.stat().st_size
    counts, rows = [], 0
    for chunk in read_csv(str(path), chunksize=5000, id="x"):
        rows += len(chunk)
        counts.append(recorder["x"].completed)
        assert recorder["x"].status == "running"
    assert rows == ROW_COUNT
    assert counts == sorted(counts)
    assert size / 10 < counts[0] < size / 2
    assert final_state(recorder) == ("succeeded", size, size, "B", None)


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zip", ".tar", ".tar.gz"])
def test_compressed_file_counts_compressed_bytes(recorder, csv_folder, ending):
    path = csv_folder / f"rows.csv{ending}"
    assert len(read_csv(path, id="x")) == ROW_COUNT
    assert final_state(recorder) == ("succeeded", path.stat().st_size, path.stat().st_size, "B", None)


def test_partial_read_counts_only_its_bytes(recorder, csv_folder):
    assert len(read_csv(csv_folder / "rows.csv", nrows=10, id="x")) == 10
    status, completed, total, *_ = final_state(recorder)
    assert status == "succeeded"
    assert 0 < completed < total


def test_open_file_is_read_from_position_and_stays_open(recorder, csv_folder):
    path = csv_folder / "rows.csv"
    with path.open("rb") as file:
        file.readline()
        assert len(read_csv(file, header=None, id="x")) == ROW_COUNT
        assert not file.closed
    assert final_state(recorder)[:3] == ("succeeded", path.stat().st_size, path.stat().st_size)
    memory = io.BytesIO(path.read_bytes())
    assert len(read_csv(memory, id="y")) == ROW_COUNT
    assert final_state(recorder)[:3] == ("succeeded", path.stat().st_size, path.stat().st_size)


def test_unsized_input_has_no_total(recorder, csv_folder):
    with gzip.open(csv_folder / "rows.csv.gz") as file:
        assert len(read_csv(file, id="unzipped")) == ROW_COUNT
    assert final_state(recorder) == ("succeeded", (csv_folder / "rows.csv").stat().st_size, None, "B", None)
    assert sum(map(len, read_csv(io.StringIO("a\n1\n2\n3\n"), chunksize=2, id="text"))) == 3
    assert final_state(recorder) == ("succeeded", 3, None, "rows", None)


def test_url_is_read_by_pandas(recorder, csv_folder):
    class SilentHandler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.HTTPServer(
        ("127.0.0.1", 0), functools.partial(SilentHandler, directory=str(csv_folder))
    ) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}/rows.csv?sig=secret"
            assert len(read_csv(url, id="x")) == ROW_COUNT
        finally:
            server.shutdown()
    assert final_state(recorder) == ("succeeded", ROW_COUNT, None, "rows", None)
    assert recorder["x"].title == "read_csv"


def test_loop_left_early_is_stopped_and_closes_file(recorder, csv_folder):
    for _ in read_csv(csv_folder / "rows.csv", chunksize=5000, id="x"):
        break
    assert final_state(recorder)[0] == "stopped"  # an open file causes a ResourceWarning


def test_block_has_exact_status(recorder, csv_folder):
    with (
        pytest.raises(ValueError, match="bad row"),
        read_csv(csv_folder / "rows.csv", chunksize=5000, id="x") as chunks,
    ):
        for _ in chunks:
            raise ValueError("bad row")
    assert (final_state(recorder)[0], final_state(recorder)[4]) == ("failed", "ValueError: bad row")
    with read_csv(csv_folder / "rows.csv", chunksize=5000, id="x") as chunks:
        for _ in chunks:
            break
    assert final_state(recorder)[0] == "stopped"
    with read_csv(csv_folder / "rows.csv", chunksize=5000, id="x") as chunks:
        assert sum(map(len, chunks)) == ROW_COUNT
        assert sum(map(len, chunks)) == 0
    assert final_state(recorder)[0] == "succeeded"
    assert len(recorder) == 3


def test_errors_of_pandas_are_unchanged(recorder, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("a\n1\n2\n3,4,5\n")
    with pytest.raises(pd.errors.ParserError):
        read_csv(bad, id="x")
    assert final_state(recorder)[0] == "failed"
    bad.write_text("a\n1\n2\nthree\n")
    with pytest.raises(ValueError, match="three"):
        list(read_csv(bad, chunksize=1, dtype={"a": int}, id="y"))
    assert final_state(recorder)[0] == "failed"
    with pytest.raises(FileNotFoundError):
        read_csv(tmp_path / "missing.csv")
    with pytest.raises(TypeError):
        read_csv(bad, colour="red")


@pytest.mark.parametrize(
    ("options", "error"), [({"id": 5}, TypeError), ({"interval": 0}, ValueError), ({"iterator": True}, ValueError)]
)
def test_invalid_options_are_refused_at_once(recorder, csv_folder, options, error):
    with pytest.raises(error):
        read_csv(csv_folder / "rows.csv", **options)
    assert len(recorder) == 0


def test_reading_in_chunks_uses_bounded_memory(recorder, csv_folder):
    tracemalloc.start()
    for _ in read_csv(csv_folder / "rows.csv", chunksize=1000, id="x"):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


# --- the drop-in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["apply", "series", "map", "groups"])
def test_progress_apply_and_similar_show_bars(recorder, kind):
    tqdm.pandas(desc="Squares", disable=None, id="x")
    table = pd.DataFrame({"a": [1, 2, 3], "b": [1, 1, 2]})
    if kind == "apply":
        assert list(table.progress_apply(lambda row: row["a"] ** 2, axis=1)) == [1, 4, 9]
    elif kind == "series":
        assert list(table["a"].progress_apply(lambda n: n * n)) == [1, 4, 9]
    elif kind == "map":
        assert list(table["a"].progress_map(lambda n: n * n)) == [1, 4, 9]
    else:
        assert list(table.groupby("b")["a"].progress_apply(sum)) == [3, 3]
    total = 2 if kind == "groups" else 3
    assert final_state(recorder) == ("succeeded", total, total, "it", None)
    assert recorder["x"].title == "Squares"


def test_function_that_raises_leaves_bar_unfinished(recorder):
    tqdm.pandas(disable=None, id="x")
    with pytest.raises(ZeroDivisionError):
        pd.Series([1, 0, 2]).progress_apply(lambda n: 1 // n)
    assert final_state(recorder)[0] in ("stopped", "failed")
