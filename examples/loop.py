"""A loop: `track()` is the only change."""

import time

from progressbar_tracker import track

for _number in track(range(50), id="example-loop", title="A loop"):
    time.sleep(0.02)
