"""Runs and deliveries for tests of the sender: no program, no network."""

from __future__ import annotations

import contextlib
import threading
import time
from unittest import mock

from progressbar_tracker import TransportError
from progressbar_tracker._sender import sender as sender_module
from progressbar_tracker._sender.snapshot import Snapshot, StaticFields

LONG_REQUEST_TIMEOUT, MAX_LOOP_SECONDS = 90.0, 30.0
"""With this timeout, a loop or a close that waits for a hanging server takes longer than any on a busy machine."""


class FakeSource:
    """A run whose state the test sets with ``at()``."""

    interval = 1.0
    record = None
    started_at = 0.0
    ended_at = None
    parent = None
    is_hidden = False
    is_anonymous = False
    tail = None

    def __init__(self, item_id="a", run_id="r1", *, keep=False, first_send_delay=0.0, part=None):
        self.id, self.run_id, self.keep = item_id, run_id, keep
        self.first_send_delay, self.part = first_send_delay, part
        self.is_tentative = False
        self.now = Snapshot("title", "", 0, 10, 0, "running", None)

    @property
    def is_skippable(self):
        return self.now.status in ("succeeded", "stopped") and not self.keep and self.part is None

    def get_static_fields(self):
        return StaticFields("it", None, None)

    def at(self, completed=None, status="running", error=None):
        completed = self.now.completed if completed is None else completed
        self.now = self.now._replace(completed=completed, status=status, error=error)
        return self

    def sample(self, before=None):
        return self.now

    def finalize(self, fatal_errors):
        if self.now.status == "running":
            self.at(status="stopped")
        self.is_tentative = False


class FakeDelivery:
    """A delivery whose ``respond`` gets the operations, and returns their results or raises."""

    unbatched = False
    boot_id = ""
    key_source = ""

    def __init__(self, respond):
        self._respond = respond

    def __call__(self, ops, timeout):
        return self._respond(ops)

    def close(self):
        pass


def accept_all(ops):
    """Return a success for each operation."""
    return [{"id": op["id"], "status": 200} for op in ops]


def fail_all(ops):
    """Raise the error of a server that is away."""
    raise TransportError("no answer", method="POST", url="http://away/")


@contextlib.contextmanager
def lock_in_another_thread(lock):
    """Let another thread hold ``lock`` during the block."""
    is_locked, block_ended = threading.Event(), threading.Event()

    def hold_lock():
        with lock:
            is_locked.set()
            block_ended.wait(60)

    thread = threading.Thread(target=hold_lock)
    thread.start()
    is_locked.wait(60)
    try:
        yield
    finally:
        block_ended.set()
        thread.join()


def run_loop(pb, **options):
    """Run a loop of 80 ms, whose item is sent in the middle of it. Return its seconds and its items."""
    items, started_at = [], time.perf_counter()
    for number in pb.track(range(10), id="job", **options):
        threading.Event().wait(0.008)  # the work of the loop
        items.append(number)
    return time.perf_counter() - started_at, items


def check_loop_and_close(pb):
    """Check that neither a loop nor the close of its client waits for the server."""
    with mock.patch.object(sender_module, "REQUEST_TIMEOUT", LONG_REQUEST_TIMEOUT):
        seconds, items = run_loop(pb, keep=True)
        assert (items, seconds < MAX_LOOP_SECONDS) == (list(range(10)), True)
        started_at = time.perf_counter()
        pb.close()
        assert time.perf_counter() - started_at < MAX_LOOP_SECONDS
