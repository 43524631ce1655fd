"""A pool of threads: the bar counts in the order of completion."""

import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from progressbar_tracker import track


def fetch(page: int) -> int:
    time.sleep(0.1 * (page % 5))
    return page


with ThreadPoolExecutor(8) as pool:
    futures = [pool.submit(fetch, page) for page in range(60)]
    for future in track(as_completed(futures), total=len(futures), id="example-threads", title="Pages", unit="pages"):
        future.result()  # raises what the thread raised
