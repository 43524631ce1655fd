"""The tqdm drop-in: only the import changes, and the bars are also on the server."""

import time

from progressbar_tracker.tqdm import tenumerate, tqdm, trange

# disable=None hides the terminal's bar if there is no terminal, as in tqdm. The server still shows it.
for _number in trange(100, desc="A range", disable=None, id="example-dropin/range"):
    time.sleep(0.01)

for number, _letter in tenumerate("abcdefghij", desc="Letters", disable=None, id="example-dropin/letters"):
    time.sleep(0.01 * number)

with tqdm(total=1_000_000, unit="B", unit_scale=True, desc="A copy", disable=None, id="example-dropin/copy") as bar:
    for chunk in range(20):
        time.sleep(0.03)
        bar.update(50_000)
        bar.set_postfix(chunk=chunk)
