"""The tqdm drop-in: another import, and the bars are on the server too."""

import time

from progressbar_tracker.tqdm import tenumerate, tqdm, trange

# disable=None, as ever with tqdm: no terminal bar where there is no terminal. The server's is there all the same.
for _number in trange(100, desc="A range", disable=None, id="example-dropin/range"):
    time.sleep(0.01)

for number, _letter in tenumerate("abcdefghij", desc="Letters", disable=None, id="example-dropin/letters"):
    time.sleep(0.01 * number)

with tqdm(total=1_000_000, unit="B", unit_scale=True, desc="A copy", disable=None, id="example-dropin/copy") as bar:
    for chunk in range(20):
        time.sleep(0.03)
        bar.update(50_000)
        bar.set_postfix(chunk=chunk)
