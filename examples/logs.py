"""Bars as log lines, for Docker and CI: one line in each interval and at the end. Log records do not tear a bar."""

import logging
import sys
import time

from progressbar_tracker import track
from progressbar_tracker.integrations.logging import lines, redirect

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
logger = logging.getLogger("example")

lines(interval=0.5)  # seconds (default: 30)
with redirect():
    for number in track(range(60), id="example-logs", title="A loop with a log"):
        time.sleep(0.02)
        if number % 20 == 0:
            logger.info("at %d", number)
