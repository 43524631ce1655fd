"""Connections to a database, all of them to the same one.

After a failover, a former primary may come back and accept writes that the new one never sees. So each connection reads
the identity of its database: the identifier of the cluster, and the timeline of its WAL, which grows with each
promotion. A server accepts no timeline older than the newest that any of its connections has seen, and a connection
that is older than that is closed.

If a URL names several hosts, each connection asks all of them and takes the primary of the newest timeline: a server
that was suspended during a failover, or that has just started, has not seen the newest one.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from progressbar_tracker._text import summarize_error

CONNECT_TIMEOUT: Final = 5
"""Seconds for a connection to one host, unless the URL has its own ``connect_timeout``."""

PROBE_TIMEOUT: Final = 2.0
"""Seconds for the other hosts, once one of them has answered as a primary."""

POOLING_PROBES: Final = 5
"""Attempts to find two sessions on one backend: another client may take the backend between two statements."""


class Connection(psycopg.Connection[TupleRow]):
    """A connection in autocommit mode, with the identity of its database.

    Attributes:
        system_id: The identifier of the database cluster; ``""`` if it cannot be read.
        timeline: The timeline of the WAL; 0 if it cannot be read.
        identity_error: Why the identity cannot be read.
        backend_pid: The process that serves the connection.
    """

    system_id = ""
    timeline = 0
    identity_error = ""
    backend_pid = 0

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler is between this program and PostgreSQL."""
        return self.info.backend_pid != self.backend_pid


class RefusedDatabaseError(psycopg.OperationalError):
    """A database does not take writes, or is not the one of this server's other connections."""


class SharedBackendError(RefusedDatabaseError):
    """A pooler in transaction mode has moved a session to another backend."""

    def __init__(self) -> None:
        super().__init__(
            "a connection pooler gives the backend of a session to other clients: it needs session mode "
            "(pgbouncer: pool_mode = session)"
        )


class Database:
    """A database, and the identity that all connections to it share. For any thread.

    Args:
        url: ``postgresql://user:password@host:port/name``; several hosts are separated by commas.

    Raises:
        psycopg.Error: The URL is invalid.

    Attributes:
        url: The URL.
        timeline: The newest timeline of all connections so far; 0 if it cannot be read.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.timeline = 0
        self._system_id = ""
        self._lock = threading.Lock()
        self._hosts = split_hosts(url)

    def connect(self) -> Connection:
        """Return a connection to the primary.

        Raises:
            psycopg.Error: The connection failed.
            RefusedDatabaseError: No host is the primary of this database.
        """
        if len(self._hosts) == 1:
            return self._admit(_open(next(iter(self._hosts.values()))))
        return self._connect_to_newest()

    def check_connection(self, connection: Connection) -> None:
        """Check that no other connection has seen a newer timeline; otherwise close this one.

        Raises:
            RefusedDatabaseError: There was a failover since this connection was made.
        """
        if connection.timeline != self.timeline:
            connection.close()
            raise RefusedDatabaseError(
                f"the connection is to timeline {connection.timeline}, and the primary is on {self.timeline}"
            )

    def check_pooling(self, connection: Connection) -> None:
        """Check that a pooler, if there is one, keeps a backend for each session.

        LISTEN, advisory locks and settings need a session. A prepared statement would be that of another client.

        Raises:
            SharedBackendError: Two sessions share a backend.
        """
        if not connection.is_pooled:
            return
        with self.connect() as other:
            for _ in range(POOLING_PROBES):
                pid = read_backend_pid(connection)
                # The transaction holds its backend, so the other session cannot use it meanwhile.
                with other.transaction():
                    if read_backend_pid(other) == pid or read_backend_pid(connection) != pid:
                        raise SharedBackendError

    def _admit(self, connection: Connection) -> Connection:
        with self._lock:
            reason = self._find_objection(connection)
            if reason is None:
                self._system_id, self.timeline = connection.system_id, connection.timeline
        if reason is not None:
            connection.close()
            raise RefusedDatabaseError(reason)
        return connection

    def _find_objection(self, connection: Connection) -> str | None:
        if len(self._hosts) > 1 and connection.identity_error:
            return (
                f"its timeline cannot be read ({connection.identity_error}), so a former primary that comes back would "
                "not be recognized: name one host only"
            )
        if self._system_id and connection.system_id != self._system_id:
            return "it is another database than at the start of this server: start the server again to use it"
        if connection.timeline < self.timeline:
            return f"it is on timeline {connection.timeline}, and the primary is on {self.timeline}"
        return None

    def _connect_to_newest(self) -> Connection:
        answers: queue.SimpleQueue[_Attempt] = queue.SimpleQueue()
        attempts = [_Attempt(name, conninfo, answers) for name, conninfo in self._hosts.items()]
        waiting = set(attempts)
        deadline: float | None = None
        while waiting:
            try:
                answer = answers.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                break
            waiting.remove(answer)
            if answer.connection is not None and deadline is None and self._find_objection(answer.connection) is None:
                deadline = time.monotonic() + PROBE_TIMEOUT
        for attempt in waiting:
            attempt.abandon()
        # The sort is stable: of equal hosts, the first one of the URL.
        answered = [attempt for attempt in attempts if attempt not in waiting]
        answered.sort(key=lambda attempt: 0 if attempt.connection is None else -attempt.connection.timeline)
        found = [attempt.connection for attempt in answered if attempt.connection is not None]
        if not self._system_id and len({connection.system_id for connection in found}) > 1:
            for connection in found:
                connection.close()
            raise RefusedDatabaseError("its hosts are different databases")
        chosen: Connection | None = None
        errors = [f"{attempt.name} does not answer" for attempt in waiting]
        for attempt in answered:
            if attempt.connection is None:
                errors.append(f"{attempt.name}: {attempt.error}")
            elif chosen is not None:
                attempt.connection.close()
            else:
                try:
                    chosen = self._admit(attempt.connection)
                except RefusedDatabaseError as error:
                    errors.append(f"{attempt.name}: {error}")
        if chosen is None:
            raise RefusedDatabaseError("; ".join(errors))
        return chosen


class _Attempt:
    """Connects to one host in a thread of its own.

    Attributes:
        name: The host, for messages.
        connection: The connection, once it is in ``answers``.
        error: Why there is none.
    """

    def __init__(self, name: str, conninfo: str, answers: queue.SimpleQueue[_Attempt]) -> None:
        self.name = name
        self.connection: Connection | None = None
        self.error = ""
        self._conninfo = conninfo
        self._answers = answers
        self._lock = threading.Lock()
        self._is_abandoned = False
        threading.Thread(target=self._run, name="progressbar-connect", daemon=True).start()

    def abandon(self) -> None:
        """Close the connection as soon as there is one."""
        with self._lock:
            self._is_abandoned = True
            connection = self.connection
        if connection is not None:
            connection.close()

    def _run(self) -> None:
        try:
            connection = _open(self._conninfo)
        except Exception as error:  # noqa: BLE001 - the thread must answer
            self.error = summarize_error(error)
        else:
            with self._lock:
                if not self._is_abandoned:
                    self.connection = connection
            if self._is_abandoned:
                connection.close()
        self._answers.put(self)


def split_hosts(url: str) -> dict[str, str]:
    """Return a connection string for each host of a URL, by a name for messages.

    Raises:
        psycopg.Error: The URL is invalid.
    """
    params = _DEFAULT_PARAMETERS | conninfo_to_dict(url)
    lists = {
        name: str(text).split(",")
        for name, variable in (("host", "PGHOST"), ("hostaddr", "PGHOSTADDR"), ("port", "PGPORT"))
        if (text := params.get(name) or os.environ.get(variable))
    }
    count = max(len(lists.get("host", ())), len(lists.get("hostaddr", ())), 1)
    if count == 1:
        return {"": make_conninfo("", **params)}
    if any(len(texts) != count for name, texts in lists.items() if name != "port" or len(texts) > 1):
        raise psycopg.ProgrammingError(f"there are {count} hosts, and another number of addresses or ports")
    found: dict[str, str] = {}
    for n in range(count):
        own = {name: texts[n] if len(texts) > 1 else texts[0] for name, texts in lists.items()}
        name = ":".join(own[part] for part in ("host", "port") if own.get(part)) or own.get("hostaddr", "")
        found[name] = make_conninfo("", **params | own)
    return found


_DEFAULT_PARAMETERS: Final[dict[str, Any]] = {
    "connect_timeout": CONNECT_TIMEOUT,
    "application_name": "progressbar-tracker",
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
"""Parameters of a connection that a URL may override."""

# Limits how long a server that hangs in a transaction can block the others. Not in the options of the connection: a
# pooler refuses these, and those of the URL would replace them.
_SET_SESSION: Final = """
    SELECT pg_is_in_recovery(), pg_backend_pid(), set_config('search_path', 'progressbar_tracker', false),
        count(set_config(name, value, false))
    FROM pg_settings JOIN (VALUES ('idle_in_transaction_session_timeout', '5s'), ('statement_timeout', '30s'),
        ('lock_timeout', '10s'), ('jit', 'off')) AS wanted (name, value) USING (name)
    WHERE source <> 'client'
"""

# Not the timeline of pg_control_checkpoint(): that is the old one until the first checkpoint after a promotion.
_READ_IDENTITY: Final = """
    SELECT system_identifier::text, substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) FROM pg_control_system()
"""


def _open(conninfo: str) -> Connection:
    connection = Connection.connect(conninfo, autocommit=True)
    timer = threading.Timer(CONNECT_TIMEOUT, abort_connection, [connection])
    timer.daemon = True
    timer.start()
    try:
        row = connection.execute(_SET_SESSION).fetchone()
        is_standby, connection.backend_pid, *_ = row or (False, 0)
        if is_standby:
            raise RefusedDatabaseError("it is a standby, which takes no writes")
        try:
            row = connection.execute(_READ_IDENTITY).fetchone()
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:  # a service without these functions, or without the permission
            connection.identity_error = summarize_error(error)
        else:
            connection.system_id, timeline = row or ("", "0")
            connection.timeline = int(timeline, 16)
    except BaseException:
        connection.close()
        raise
    finally:
        timer.cancel()
    return connection


def read_backend_pid(connection: psycopg.Connection[TupleRow]) -> int:
    """Return the process that executes this statement."""
    (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
    return int(pid)


def abort_connection(connection: psycopg.Connection[TupleRow]) -> None:
    """Shut the socket of a connection down, so that a thread that waits for a response fails at once."""
    with contextlib.suppress(psycopg.Error, OSError, ValueError):
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as other:
            other.shutdown(socket.SHUT_RDWR)
