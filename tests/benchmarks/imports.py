"""The cost of an import: ``python tests/benchmarks/imports.py [--quick]``.

Each statement runs in a fresh interpreter, repeatedly and interleaved. The time is the median of the process's CPU
time, user and system, from the kernel. "Added" is the difference to an interpreter without imports. The peer is
``import tqdm``. Uncounted rounds compile both into one temporary cache of bytecode, so that neither a fresh checkout
nor ``PYTHONDONTWRITEBYTECODE`` makes a difference.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from harness import format_ratio, parse_options, print_table, run_rounds

IMPORT_STATEMENTS = {
    "nothing": "pass",
    "import tqdm": "import tqdm",
    "import progressbar_tracker": "import progressbar_tracker",
}


def measure_cpu(statement, environ):
    """Return the CPU seconds of a fresh interpreter that runs a statement."""
    child = subprocess.Popen([sys.executable, "-c", statement], env=environ)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{statement!r} failed")
    return usage.ru_utime + usage.ru_stime


def count_modules(statement):
    code = f"import sys; before = len(sys.modules); {statement}; print(len(sys.modules) - before)"
    return int(subprocess.check_output([sys.executable, "-c", code]))


def main():
    quick = parse_options(__doc__).quick
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        contenders = {name: lambda text=text: measure_cpu(text, environ) for name, text in IMPORT_STATEMENTS.items()}
        run_rounds(contenders, 2)
        took = run_rounds(contenders, 5 if quick else 60, statistics.median)
    bare = took["nothing"]
    peer = took["import tqdm"] - bare
    print_table(
        "CPU time of an interpreter, ms",
        ["statement", "in all", "added", "modules", "ratio to tqdm"],
        [
            [name, f"{took[name] * 1e3:.1f}", f"{(took[name] - bare) * 1e3:.1f}", count_modules(text),
             format_ratio(took[name] - bare, peer)]
            for name, text in IMPORT_STATEMENTS.items()
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
