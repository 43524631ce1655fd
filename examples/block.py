"""A block: `advance()` moves its bar, and an exception ends it as failed."""

import io
import time

from progressbar_tracker import track

source = io.BytesIO(bytes(1_000_000))

with track(total=1_000_000, id="example-block", title="A copy", unit="B") as bar:
    while chunk := source.read(65_536):
        time.sleep(0.05)
        bar.advance(len(chunk))
        bar.description = f"{len(chunk)} bytes more"
