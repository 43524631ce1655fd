#!/bin/sh
# An unchanged Python program, here from stdin: its bars are below an item for the run.
progressbar-tracker run --job --id example-run - 3 <<'END'
import sys
import time

from tqdm import tqdm

for epoch in range(int(sys.argv[1])):
    for batch in tqdm(range(20), desc=f"epoch {epoch + 1}"):
        time.sleep(0.01)
END
