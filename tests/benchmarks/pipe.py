"""The throughput of ``pipe``: ``python tests/benchmarks/pipe.py [--quick]``.

A shell's pipeline of a producer, the measured command, and a consumer that discards its input: the time from its start
to its end, with the start of an interpreter. The peers are ``cat``, which counts nothing, and ``python -m tqdm``, which
counts the same. There is no server and no terminal.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import format_ratio, parse_options, print_table, run_rounds

PIPE_COMMAND = [sys.executable, "-m", "progressbar_tracker", "pipe"]
TQDM_COMMAND = [sys.executable, "-m", "tqdm"]
PIPE_CASES = {
    "bytes": {"cat": ["cat"], "tqdm --bytes": [*TQDM_COMMAND, "--bytes"], "pipe --bytes": [*PIPE_COMMAND, "--bytes"]},
    "lines": {
        "cat": ["cat"],
        "tqdm": TQDM_COMMAND,
        "tqdm --bytes": [*TQDM_COMMAND, "--bytes"],
        "pipe": PIPE_COMMAND,
        "pipe --bytes": [*PIPE_COMMAND, "--bytes"],
    },
}


def time_pipeline(source, command, environ):
    """Return the seconds that a pipeline takes."""
    began = time.perf_counter()
    producer = subprocess.Popen(["cat", str(source)], stdout=subprocess.PIPE)
    measured = subprocess.Popen(
        command, stdin=producer.stdout, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environ
    )
    consumer = subprocess.Popen(["cat"], stdin=measured.stdout, stdout=subprocess.DEVNULL)
    producer.stdout.close()
    measured.stdout.close()
    codes = [process.wait() for process in (producer, measured, consumer)]
    took = time.perf_counter() - began
    if any(codes):
        raise SystemExit(f"{command} ended with {codes}")
    return took


def fill_file(path, size, piece):
    with path.open("wb") as file:
        for _ in range(size // len(piece)):
            file.write(piece)


def main():
    quick = parse_options(__doc__).quick
    gib, lines = (1 << 26, 500_000) if quick else (1 << 30, 10_000_000)
    with tempfile.TemporaryDirectory(prefix="progressbar-benchmark-") as folder:
        data = {"bytes": Path(folder) / "bytes", "lines": Path(folder) / "lines"}
        fill_file(data["bytes"], gib, os.urandom(1 << 20))
        fill_file(data["lines"], lines * 7, b"123456\n" * 10_000)
        environ = {name: text for name, text in os.environ.items() if not name.startswith("PROGRESSBAR_")}
        environ["PROGRESSBAR_CONFIG"] = str(Path(folder) / "config.toml")
        titles = {"bytes": f"{gib >> 20} MiB of bytes", "lines": f"{lines:,} lines of 7 bytes"}
        for name, commands in PIPE_CASES.items():
            contenders = {
                title: lambda command=command: time_pipeline(data[name], command, environ)  # noqa: B023 - called in this iteration
                for title, command in commands.items()
            }
            took = run_rounds(contenders, 1 if quick else 5)
            size = data[name].stat().st_size
            print_table(
                titles[name],
                ["through", "seconds", "MB/s", "ratio to cat", "ratio to tqdm --bytes"],
                [
                    [title, f"{seconds:.2f}", f"{size / seconds / 1e6:,.0f}", format_ratio(seconds, took["cat"]),
                     format_ratio(seconds, took["tqdm --bytes"])]
                    for title, seconds in took.items()
                ],
            )  # fmt: skip


if __name__ == "__main__":
    main()
