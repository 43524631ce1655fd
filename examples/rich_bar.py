"""rich: an item for each task of its progress, and track() with rich's style."""

import time

from rich.progress import Progress

from progressbar_tracker.integrations.rich import mirror, track

with mirror(Progress(), id="example-rich") as progress:
    baking = progress.add_task("[green]Baking", total=50)
    cooling = progress.add_task("Cooling", total=25)
    while not progress.finished:
        progress.advance(baking)
        progress.advance(cooling, 0.5)
        time.sleep(0.03)

for _number in track(range(50), id="example-rich-track", title="With rich's look"):
    time.sleep(0.01)
