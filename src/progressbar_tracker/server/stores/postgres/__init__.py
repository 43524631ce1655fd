"""The store for several servers on one PostgreSQL database.

All writes take one path. The thread of the writer takes a group, locks the rows of its items, resolves conflicts with
the stored states, and commits the group under the next revisions. All changes are seen on one path, too. A notification
of the commit, or a timer, wakes the thread of the follower. It reads the rows with newer revisions and publishes them,
on the server that wrote them as on all others.
"""

from .store import PostgresStore

__all__ = ["PostgresStore"]
