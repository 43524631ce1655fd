"""The store for many servers on one PostgreSQL database.

A write goes one way: the writer's thread takes what waits, locks the rows of the items, lets the ledger judge each
change against what is stored, and commits all of it under the next revisions. A change is seen one way, too: the
follower's thread, woken by the notification of that commit or by its own clock, reads what has a revision that is newer
than the last it saw, and tells it, to the server that wrote it as to all others.
"""

from .store import PostgresStore

__all__ = ["PostgresStore"]
