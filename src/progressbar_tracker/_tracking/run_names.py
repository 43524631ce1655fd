"""Names of runs and items: unique ones, those of the program, and those that a user gives."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading

from progressbar_tracker._models import MAX_ID_LENGTH, format_value
from progressbar_tracker._text import clean_text, get_script_path

from .counter import LOCK_TIMEOUT, is_gil_enabled

_run_numbers = itertools.count(1)
_run_numbers_lock = threading.Lock()  # for Pythons without the GIL, where two threads may get the same number


def take_run_number() -> int:
    """Return a number that is unique in this process."""
    if is_gil_enabled():
        return next(_run_numbers)
    locked = _run_numbers_lock.acquire(timeout=LOCK_TIMEOUT)
    try:
        return next(_run_numbers)
    finally:
        if locked:
            _run_numbers_lock.release()


class ProcessToken:
    """A few characters unique to this process, drawn again after a fork."""

    pid = 0
    token = ""

    @classmethod
    def get(cls) -> str:
        """Return the token of this process."""
        if cls.pid != os.getpid():
            cls.pid, cls.token = os.getpid(), os.urandom(4).hex()
        return cls.token


def make_unique_name() -> str:
    """Return a name that is unique among all processes and calls."""
    return f"{ProcessToken.get()}-{take_run_number()}"


def normalize_id(value: object) -> str:
    """Return a valid id. One that is too long is cut, and ends with a digest of the whole id."""
    if not isinstance(value, str):
        raise TypeError(f"id must be a string, not {format_value(value)}")
    value = str.__str__(value)  # not the methods of a subclass
    if not value:
        raise ValueError("id must not be empty; leave it out to have one made")
    if len(value) > MAX_ID_LENGTH:
        with contextlib.suppress(ImportError, OSError):  # without a free file descriptor the id is only cut
            import hashlib

            digest = hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()[:16]
            value = f"{value[: MAX_ID_LENGTH - 17]}-{digest}"
    return clean_text(value, MAX_ID_LENGTH)


def get_program_name() -> str:
    """Return the file name of the running script, without its suffix."""
    main = get_script_path()
    stem = os.path.splitext(os.path.basename(main))[0]  # noqa: PTH119, PTH122 - every short loop runs this
    if stem == "__main__":
        stem = os.path.basename(os.path.dirname(main))  # noqa: PTH119, PTH120
    return {"": "python", "-": "python", "-c": "python", "ipykernel_launcher": "notebook"}.get(
        stem, clean_text(stem, 60)
    )
