"""Bars in a log, for Docker and CI: a line an interval, and one at the end. And log lines that do not tear a bar."""

import logging
import sys
import time

from progressbar_tracker import track
from progressbar_tracker.integrations.logging import lines, redirect

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
logger = logging.getLogger("example")

lines(interval=0.5)  # seconds; 30 by default
with redirect():
    for number in track(range(60), id="example-logs", title="A loop with a log"):
        time.sleep(0.02)
        if number % 20 == 0:
            logger.info("at %d", number)
