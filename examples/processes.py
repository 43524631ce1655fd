"""One bar for a pool of processes: each process reports its own part, and the item shows the sum."""

import time
from concurrent.futures import ProcessPoolExecutor

from progressbar_tracker import Share, track


def work(share: Share, rows: range) -> int:
    for _row in share.track(rows, part=f"rows from {rows[0]}"):
        time.sleep(0.005)
    return len(rows)


if __name__ == "__main__":
    pieces = [range(start, start + 50) for start in range(0, 200, 50)]
    with track(total=200, id="example-processes", title="Rows", unit="rows") as bar, ProcessPoolExecutor(2) as pool:
        print(sum(pool.map(work, [bar.share()] * len(pieces), pieces)), "rows")
