"""Follow the changes of a database in one thread, woken by notifications and by a timer, since these may be lost.

A batch with a revision is exact: it has all changes up to that revision, and none of a later one. The ids of events
rest on this: a stream that another server resumes after a revision gets every later change.

The table ``changes`` has the ids of each commit, and the revisions that it covers. It is read together with the rows,
in one snapshot. A commit takes its revisions under the lock of ``meta``, which it keeps until it is visible, so a
snapshot with a revision has all smaller ones. A gap means that the log was trimmed: then everything is read again.

Its connection also holds the leader lock: if the connection breaks, another server becomes the leader within a second.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
import psycopg

from progressbar_tracker._text import summarize_error
from progressbar_tracker.server import logs
from progressbar_tracker.server.clock import read_monotonic
from progressbar_tracker.server.stores.base import ChangeBatch, ItemRow
from progressbar_tracker.server.stores.reading import parse_ended_run, parse_rows

from . import credential_rows, rows, run_queries, schedules
from .database import RefusedDatabaseError, SharedBackendError, abort_connection
from .schema import LEADER_LOCK_ID, NOTIFY_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from psycopg.rows import TupleRow

    from .database import Connection, Database

logger = logging.getLogger("progressbar_tracker.server.store")

POLL_INTERVAL: Final = 1.0
"""Seconds between two reads without a notification."""

MIN_POLL_INTERVAL: Final = 0.02
"""Minimum seconds between two reads: one read covers the commits of many servers."""

MAX_BATCH_ITEMS: Final = 2000
"""Items in one batch: the event loop applies a batch in one turn."""


class Follower:
    """Reads the changes since a revision, and publishes them.

    Args:
        database: The database.
        database_id: See :attr:`~..base.Store.database_id`.
        timeline: The timeline of the loaded state.
        rev: The revision of the loaded items.
        credentials_rev: The revision of the loaded keys, sessions and shares.
        schedules_rev: The revision of the loaded schedules.
        publish: Receives batches of changes, in this thread.
        drain_uncertain: Returns items to publish in any case, changed or not.
        forget_commits: Is called before everything is read again.

    Attributes:
        is_leader: Whether this server holds the leader lock.
        confirmed_at: Start of the latest successful read of the credentials, by :func:`~.clock.read_monotonic`.
    """

    def __init__(
        self,
        database: Database,
        *,
        database_id: str,
        timeline: int,
        rev: int,
        credentials_rev: int,
        schedules_rev: int,
        publish: Callable[[ChangeBatch], None],
        drain_uncertain: Callable[[], set[str]],
        forget_commits: Callable[[], None],
    ) -> None:
        self._database = database
        self._database_id = database_id
        self._timeline = timeline
        self._rev = rev
        self._credentials_rev = credentials_rev
        self._schedules_rev = schedules_rev
        self._publish = publish
        self._drain_uncertain = drain_uncertain
        self._forget_commits = forget_commits
        self._uncertain_ids: set[str] = set()
        self._closing = threading.Event()
        self._connection: Connection | None = None
        self.confirmed_at = read_monotonic()
        self.is_leader = False
        self._thread = threading.Thread(target=self._run_loop, name="progressbar-follower", daemon=True)
        self._thread.start()

    def request_close(self) -> None:
        """Stop at the next read. A notification triggers it at once."""
        self._closing.set()

    def close(self) -> None:
        """Stop, even if the database does not answer."""
        self._closing.set()
        if (connection := self._connection) is not None:
            abort_connection(connection)
        self._thread.join(0.3)

    def _run_loop(self) -> None:
        while not self._closing.is_set():
            try:
                with self._database.connect() as connection:
                    self._connection = connection
                    connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
                    if connection.timeline != self._timeline:
                        self._reload_all(connection)
                        logs.log_event("failover followed", timeline=self._timeline, rev=self._rev)
                    while not self._closing.is_set():
                        self._database.check_connection(connection)
                        self._poll(connection)
                        for _ in connection.notifies(timeout=POLL_INTERVAL, stop_after=1):
                            pass
                        self._closing.wait(MIN_POLL_INTERVAL)
            except psycopg.Error as error:
                if not self._closing.is_set():
                    logger.warning("the database cannot be followed: %s", summarize_error(error))
            except Exception:
                logger.exception("the database cannot be followed")
            self._connection = None
            if self.is_leader:
                self.is_leader = False
                logs.log_event("leadership lost")
            self._closing.wait(POLL_INTERVAL)

    def _poll(self, connection: Connection) -> None:
        if not self.is_leader:
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK_ID]).fetchone()
            if row is not None and row[0]:
                self._publish(
                    ChangeBatch(
                        sampled_runs=run_queries.read_sampled_runs(connection),
                        curves=run_queries.read_running_curves(connection),
                        schedule_mark=schedules.read_mark(connection),
                    )
                )
                self.is_leader = True
                logs.log_event("leadership gained")
        self._uncertain_ids |= self._drain_uncertain()
        if self._uncertain_ids:
            # These rows may be newer than the followed revision.
            self._publish(ChangeBatch(read_items(connection, self._uncertain_ids), out_of_order=True))
            self._uncertain_ids.clear()
        started_at = read_monotonic()
        meta = connection.execute(
            "SELECT meta.rev, credentials_rev, pg_backend_pid(), monitor.rev, dropped_rev "
            "FROM meta CROSS JOIN schedule_monitor AS monitor"
        ).fetchone()
        if meta is None:
            raise RefusedDatabaseError("its table meta or schedule_monitor is empty")
        rev, credentials_rev, backend_pid, schedules_rev, dropped_rev = meta
        if backend_pid != connection.backend_pid:
            raise SharedBackendError
        if (
            rev < self._rev or credentials_rev < self._credentials_rev or schedules_rev < self._schedules_rev
        ):  # an older copy was restored
            self._reload_all(connection)
            return
        if credentials_rev != self._credentials_rev:
            credentials = credential_rows.read_credentials(connection)
            self._publish(ChangeBatch(credentials=credentials))
            self._credentials_rev = credentials.rev
        self.confirmed_at = started_at
        if self._schedules_rev < dropped_rev:
            self._reload_schedules(connection)
        elif self._schedules_rev < schedules_rev:
            self._publish(ChangeBatch(schedules=schedules.read_changed_schedules(connection, self._schedules_rev)))
            self._schedules_rev = schedules_rev
        if rev > self._rev and not self._read_changes(connection):
            items, self._rev = read_all_items(connection)
            self._publish(ChangeBatch(items, rev=self._rev, full=True))

    def _reload_all(self, connection: Connection) -> None:
        """Publish all of a database that has lost its latest changes, and uses their revisions again."""
        timeline = connection.timeline
        self._forget_commits()
        started_at = read_monotonic()
        credentials = credential_rows.read_credentials(connection)
        items, rev = read_all_items(connection)
        epoch = build_epoch(self._database_id, timeline)
        self._publish(ChangeBatch(items, rev=rev, credentials=credentials, full=True, epoch=epoch))
        self._timeline, self._rev, self._credentials_rev = timeline, rev, credentials.rev
        self.confirmed_at = started_at
        self._reload_schedules(connection)

    def _reload_schedules(self, connection: Connection) -> None:
        records, revisions = schedules.read_all_schedules(connection)
        self._publish(ChangeBatch(schedules=records, all_schedules=True))
        self._schedules_rev = revisions.rev

    def _read_changes(self, connection: Connection) -> bool:
        """Publish the changes since the followed revision; return whether the log still has all of them."""
        log, states, ended = _read_log(connection, self._rev)
        reached = self._rev
        revs = dict[str, int]()  # of the latest change of each item, in order
        runs = deque[tuple[int, int]]()  # revision and number
        for rev, since, ids, numbers in log:
            if since > reached:
                return False
            for item_rev, item_id in enumerate(_decode_ids(ids), since + 1):
                if item_rev > reached:
                    revs.pop(item_id, None)
                    revs[item_id] = item_rev
            runs += [(rev, number) for number in _decode_numbers(numbers or "[]")]
            reached = rev
        if not log:
            return False
        changed = list(revs.items())
        for start in range(0, max(len(changed), 1), MAX_BATCH_ITEMS):
            part = changed[start : start + MAX_BATCH_ITEMS]
            rev = part[-1][1] if start + len(part) < len(changed) else reached
            numbers = list[int]()
            while runs and runs[0][0] <= rev:
                numbers.append(runs.popleft()[1])
            items = {item_id: rows.parse_item_row(item_id, item_rev, states.get(item_id)) for item_id, item_rev in part}
            found = [ended[number] for number in numbers if number in ended]
            self._publish(
                ChangeBatch(items, parse_rows("history", found, lambda _, *row: parse_ended_run(*row)), rev=rev)
            )
            self._rev = rev
        return True


_decode_ids: Final = msgspec.json.Decoder(list[str]).decode
_decode_numbers: Final = msgspec.json.Decoder(list[int]).decode


def _read_log(connection: Connection, rev: int) -> tuple[list[TupleRow], dict[str, str], dict[int, TupleRow]]:
    """Return the log since a revision, with the states of its items and its ended runs, of one instant."""
    with connection.pipeline():
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        log = connection.execute("SELECT rev, since, ids, runs FROM changes WHERE rev > %s ORDER BY rev", [rev])
        states = connection.execute(
            "SELECT id, state FROM items WHERE id = ANY(ARRAY("
            "SELECT json_array_elements_text(ids::json) FROM changes WHERE rev > %s))",
            [rev],
        )
        ended = connection.execute(
            "SELECT n, state, status, ended_at FROM history WHERE n = ANY(ARRAY("
            "SELECT json_array_elements_text(runs::json)::bigint FROM changes WHERE rev > %s))",
            [rev],
        )
        connection.execute("COMMIT")
    return log.fetchall(), dict(states), {row[0]: row for row in ended}


def build_epoch(database_id: str, timeline: int) -> str:
    """Return the epoch of the revisions of a timeline: another one may use the same revisions for other changes."""
    return f"{database_id}.{timeline}" if timeline else database_id


def read_items(connection: Connection, ids: Iterable[str]) -> dict[str, ItemRow]:
    """Return stored items, each with the revision of the database at that instant."""
    wanted = list(ids)
    result = connection.execute(
        "SELECT meta.rev, items.id, state FROM meta LEFT JOIN items ON items.id = ANY(%s)", [wanted]
    ).fetchall()
    if not result:
        raise RefusedDatabaseError("its table meta is empty")
    rev = int(result[0][0])
    stored = {item_id: rows.parse_item_row(item_id, rev, state) for _, item_id, state in result if item_id is not None}
    return {item_id: stored.get(item_id, ItemRow(rev, None)) for item_id in wanted}


def read_all_items(connection: Connection) -> tuple[dict[str, ItemRow], int]:
    """Return all items and the revision of the database, in one transaction."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        (rev,) = connection.execute("SELECT rev FROM meta").fetchone() or (0,)
        items = connection.execute("SELECT id, state FROM items").fetchall()
    return {item_id: rows.parse_item_row(item_id, rev, state) for item_id, state in items}, int(rev)
