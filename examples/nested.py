"""A bar inside another bar's loop has that bar as its parent."""

import time

from progressbar_tracker import track

for folder in track(["a", "b", "c"], id="example-nested", title="Folders", unit="folders"):
    for _file in track(range(20), id=f"example-nested/{folder}", title=f"Folder {folder}", unit="files"):
        time.sleep(0.01)
