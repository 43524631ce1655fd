"""Shared parts of the benchmarks: a server process, interleaved rounds, an aligned table.

A number alone depends more on the machine than on the code. So each benchmark also runs a named peer in the same run,
round by round, keeps the best (or the median) of each, and prints the ratio.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ADMIN_KEY = "the-admin-key-of-the-benchmarks"


def parse_options(doc, more=lambda _: None):
    """Return the options; ``more`` adds options to the parser.

    ``--quick`` only proves that the benchmark works. Its figures mean little.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few seconds: shows that it runs, not how fast it is")
    more(parser)
    options = parser.parse_args()
    note = ", --quick: the figures mean little" if options.quick else ""
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores{note}")
    return options


@contextlib.contextmanager
def start_process(command, pattern, environ=None):
    """Start a process, wait for a line of output that matches, and yield the match; kill the process at the end."""
    with subprocess.Popen(command, env={**os.environ, **(environ or {})}, stdout=subprocess.PIPE, text=True) as started:
        try:
            for line in started.stdout:
                if match := re.match(pattern, line):
                    yield match
                    return
            raise SystemExit(f"{command[1:]} ended before it was ready")
        finally:
            started.kill()


@contextlib.contextmanager
def run_server(**settings):
    """Run ``serve`` on a free port and an empty database; yield its URL. The key is ``ADMIN_KEY``."""
    with tempfile.TemporaryDirectory(prefix="progressbar-benchmark-") as folder:
        environ = {
            "PROGRESSBAR_CONFIG": str(Path(folder) / "config.toml"),
            "PROGRESSBAR_DATABASE": str(Path(folder) / "progress.db"),
            "PROGRESSBAR_ADMIN_KEY": ADMIN_KEY,
            **settings,
        }
        command = [sys.executable, "-m", "progressbar_tracker", "serve", "--port", "0", "--no-local-key"]
        with start_process(command, r"Serving on (\S+) ", environ) as match:
            yield match[1]


def run_rounds(contenders, number, pick=min):
    """Call each contender once in every round; return ``pick`` of each contender's results.

    The order rotates from round to round.
    """
    results = {name: [] for name in contenders}
    order = list(contenders)
    for _ in range(number):
        for name in order:
            results[name].append(contenders[name]())
        order.append(order.pop(0))
    return {name: pick(values) for name, values in results.items()}


def print_table(title, heads, rows):
    """Print aligned rows: the first column to the left, numbers to the right."""
    lines = [[str(cell) for cell in line] for line in [heads, *rows]]
    wide = [max(len(line[n]) for line in lines) for n in range(len(heads))]
    print(f"\n{title}")
    for line in lines:
        first, *rest = (cell.rjust(wide[n]) if n else cell.ljust(wide[n]) for n, cell in enumerate(line))
        print("  ".join([first, *rest]).rstrip())


def format_ratio(ours, theirs):
    return f"{ours / theirs:.3f}" if theirs > 0 else "-"
