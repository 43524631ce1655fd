"""A pytest plugin for tqdm's test suite: replaces tqdm's classes with the drop-in class in each of its modules."""

import sys

import tqdm
import tqdm.asyncio
import tqdm.auto
import tqdm.cli
import tqdm.contrib
import tqdm.contrib.concurrent
import tqdm.contrib.logging
import tqdm.std

from progressbar_tracker.tqdm import tqdm as tqdm_class

TQDM_CLASSES = {tqdm.std.tqdm, tqdm.asyncio.tqdm_asyncio}


def replace_class(value: object) -> object:
    """Return the drop-in class instead of one of tqdm's."""
    return tqdm_class if isinstance(value, type) and value in TQDM_CLASSES else value


for name, module in list(sys.modules.items()):
    if name.partition(".")[0] == "tqdm":
        for key, value in list(vars(module).items()):
            if replace_class(value) is not value:
                setattr(module, key, tqdm_class)
        for function in vars(module).values():
            if getattr(function, "__defaults__", None):
                function.__defaults__ = tuple(map(replace_class, function.__defaults__))
            if getattr(function, "__kwdefaults__", None):
                function.__kwdefaults__ = {key: replace_class(value) for key, value in function.__kwdefaults__.items()}


def pytest_report_header() -> str:
    """Name the class under test."""
    return f"tqdm.tqdm is {tqdm.tqdm.__module__}.{tqdm.tqdm.__qualname__}"
