"""A pytest plugin for tqdm's own tests: our class stands wherever tqdm keeps its own."""

import sys

import tqdm
import tqdm.asyncio
import tqdm.auto
import tqdm.cli
import tqdm.contrib
import tqdm.contrib.concurrent
import tqdm.contrib.logging
import tqdm.std

import progressbar_tracker.tqdm as ours

THEIRS = {tqdm.std.tqdm, tqdm.asyncio.tqdm_asyncio}

for name, module in list(sys.modules.items()):
    if name.partition(".")[0] == "tqdm":
        for key, value in list(vars(module).items()):
            if isinstance(value, type) and value in THEIRS:
                setattr(module, key, ours.tqdm)
        for function in vars(module).values():
            defaults = getattr(function, "__defaults__", None)
            if defaults and any(value in THEIRS for value in defaults if isinstance(value, type)):
                function.__defaults__ = tuple(
                    ours.tqdm if isinstance(value, type) and value in THEIRS else value for value in defaults
                )


def pytest_report_header() -> str:
    """Say whose class is tested."""
    return f"tqdm.tqdm is {tqdm.tqdm.__module__}.{tqdm.tqdm.__qualname__}"
