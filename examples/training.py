"""A custom training loop: epochs with the loss as their description, and their steps."""

import time

from progressbar_tracker import track

TRAINING_ROWS = [(x / 10, 3 * x / 10 + 1) for x in range(-10, 10)]  # y = 3 x + 1
EPOCH_COUNT = 8

slope = offset = 0.0

with track(total=EPOCH_COUNT, id="example-training", title="A straight line", unit="epochs") as fit:
    for epoch in range(EPOCH_COUNT):
        squares = 0.0
        for x, y in track(TRAINING_ROWS, id="example-training/steps", title=f"Epoch {epoch + 1}", unit="steps"):
            error = slope * x + offset - y
            slope -= 0.1 * error * x
            offset -= 0.1 * error
            squares += error * error
            time.sleep(0.005)
        fit.update(completed=epoch + 1, description=f"loss {squares / len(TRAINING_ROWS):.4f}")

print(f"y = {slope:.2f} x + {offset:.2f}")
