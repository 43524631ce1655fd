"""pandas: the bytes of a CSV file, and progress_apply with the drop-in's bar."""

import tempfile
import time
from pathlib import Path

import pandas as pd

from progressbar_tracker.integrations.pandas import read_csv
from progressbar_tracker.tqdm import tqdm


def slow_square(number: int) -> int:
    time.sleep(0.005)
    return number * number


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "numbers.csv"
    pd.DataFrame({"number": range(200_000)}).to_csv(path, index=False)
    rows = 0
    for chunk in read_csv(path, chunksize=40_000, id="example-pandas/read"):
        rows += len(chunk)
        time.sleep(0.2)

# disable=None: no terminal bar if there is no terminal
tqdm.pandas(desc="Squares", disable=None, id="example-pandas/apply")
print(rows, "rows,", pd.Series(range(200)).progress_apply(slow_square).sum())
