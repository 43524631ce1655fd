"""Streams that clients resume on another server, after any event: no change is lost.

The database is a list of commits. Servers follow it, publish ticks and lose clients in a random order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import TYPE_CHECKING, cast

import pytest

from progressbar_tracker.server.cluster import ClusterSync
from progressbar_tracker.server.frames import View
from progressbar_tracker.server.hub import Hub
from progressbar_tracker.server.items.board import Board
from progressbar_tracker.server.items.change import Change, Owner
from progressbar_tracker.server.stores.base import ChangeBatch, ItemRow, SharedStore
from tests.support.boards import ITEM_SERIALIZER
from tests.support.clock import START_TIME

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from progressbar_tracker.server.models import EndedRun, Item

ITEM_OWNER = Owner("o", "o")
ITEM_COUNT = 4
GROUP_NAMES = ("g", "h")
LOOP_TURNS = 10
"""Turns of the event loop in which a client reads all events that were sent."""


class Database:
    """The commits of all servers: the rows of items, and the runs that moved to the history."""

    def __init__(self) -> None:
        self.board = Board(max_items=1000, new_run_id=lambda: "run")
        self.rev = 0
        self.rows: dict[str, ItemRow] = {}
        self.ended_runs: list[tuple[int, EndedRun]] = []

    def put(self, item_id: str, group: str) -> None:
        self._commit(self.board.put(item_id, {"run_id": f"{self.rev}", "group": group}, ITEM_OWNER, START_TIME))

    def delete(self, item_id: str) -> None:
        self._commit(self.board.delete(item_id, START_TIME))

    def commit_any(self, choose: random.Random) -> None:
        item_id = str(choose.randrange(ITEM_COUNT))
        item = self.board.get(item_id)
        if item is None:
            self.put(item_id, choose.choice(GROUP_NAMES))
        elif choose.random() < 0.5:
            self._commit(self.board.patch(item_id, {"completed": (item.completed or 0) + 1}, START_TIME))
        else:
            self.delete(item_id)

    def _commit(self, change: Change) -> None:
        self.rev += 1
        self.rows[change.id] = ItemRow(self.rev, change.after)
        if change.ended_run is not None:
            self.ended_runs.append((self.rev, change.ended_run))

    def read_changes(self, since: int) -> ChangeBatch:
        changed = {item_id: row for item_id, row in self.rows.items() if row.rev > since}
        return ChangeBatch(changed, [run for rev, run in self.ended_runs if rev > since], rev=self.rev)


class NoPendingWrites:
    """The part of a store that a server without writes of its own needs."""

    rev = 0
    epoch = "e"

    def find_pending_base(self, _item_id: str, _rev: int) -> bool:
        return False

    def acknowledge(self, _rev: int) -> None:
        """Do nothing."""


class Server:
    """The boards and the hub of a server."""

    def __init__(self, database: Database) -> None:
        self._database = database
        board = Board(max_items=1000, new_run_id=lambda: "run", track_changes=False)
        self.cluster = ClusterSync(cast("SharedStore", NoPendingWrites()), board)
        self.hub = Hub(
            self.cluster.stored_board, ITEM_SERIALIZER, epoch="e", clock=lambda: START_TIME,
            get_rev=self.cluster.get_rev, monotonic=lambda: 0.0,
        )  # fmt: skip

    def follow(self) -> None:
        self.cluster.apply(self._database.read_changes(self.cluster.rev))


class Client:
    """A client of one server at a time, which keeps the items that it has received."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.items: dict[str, object] = {}
        self._last_event_id: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def connect(self, server: Server) -> None:
        await self.disconnect()
        self._task = asyncio.create_task(self._read(server.hub.events(self.view, self._last_event_id, lambda: True)))

    async def disconnect(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def adopt_list(self, server: Server) -> None:
        """Read the list of items, from which the next stream continues."""
        self._last_event_id = server.hub.begin_handover()
        self.items = summarize(self.view.list_items(server.cluster.stored_board))

    async def _read(self, frames: AsyncGenerator[bytes]) -> None:
        async with contextlib.aclosing(frames):
            async for frame in frames:
                fields = dict(line.partition(": ")[::2] for line in frame.decode().splitlines())
                if "data" in fields:
                    self._apply_event(fields["event"], json.loads(fields["data"]))
                    self._last_event_id = fields["id"]

    def _apply_event(self, name: str, data: dict[str, list[dict[str, object]]]) -> None:
        if name == "snapshot":
            self.items.clear()
        self.items |= {str(item["id"]): (item["run_id"], item["completed"]) for item in data.get("items", ())}
        for item_id in data.get("gone", ()):
            self.items.pop(str(item_id), None)


def summarize(items: Iterable[Item]) -> dict[str, object]:
    return {item.id: (item.run_id, item.completed) for item in items}


async def give_turns() -> None:
    for _ in range(LOOP_TURNS):
        await asyncio.sleep(0)


@pytest.mark.parametrize("group", [None, "g"])
def test_run_that_another_server_never_knew_is_gone_there(group: str | None) -> None:
    async def main() -> None:
        database, client = Database(), Client(View(group))
        first, second = Server(database), Server(database)
        client.adopt_list(second)  # so that it keeps its changes
        database.put("a", "g")
        first.follow()
        await client.connect(first)
        await give_turns()
        assert list(client.items) == ["a"]
        database.delete("a")
        second.follow()  # one read for the beginning and the end of the run
        second.hub.tick()
        await client.connect(second)
        await give_turns()
        assert list(client.items) == []
        await client.disconnect()

    asyncio.run(main())


def test_run_is_gone_only_in_views_of_its_group() -> None:
    async def main() -> None:
        database = Database()
        server = Server(database)
        stream = server.hub.events(View("h", is_public=True), None, lambda: True)
        await anext(stream), await anext(stream)
        database.put("a", "g")
        database.delete("a")
        database.put("b", "h")
        server.follow()
        server.hub.tick()
        assert b'"gone":[]' in await anext(stream)
        await stream.aclose()

    asyncio.run(main())


async def take_step(choose: random.Random, database: Database, servers: list[Server], clients: list[Client]) -> None:
    server, client = choose.choice(servers), choose.choice(clients)
    match choose.choices(["commit", "follow", "tick", "list", "connect"], [8, 5, 4, 1, 4])[0]:
        case "commit":
            database.commit_any(choose)
        case "follow":
            server.follow()
        case "tick":
            server.hub.tick()
        case "list":
            await client.disconnect()
            client.adopt_list(server)
            await client.connect(server)
        case "connect":
            await client.connect(server)
    if choose.random() < 0.7:
        await give_turns()


@pytest.mark.parametrize("seed", range(20))
def test_client_of_several_servers_sees_each_change(seed: int) -> None:
    choose = random.Random(seed)

    async def main() -> None:
        database = Database()
        servers = [Server(database), Server(database)]
        clients = [Client(View(choose.choice([None, *GROUP_NAMES]))) for _ in range(3)]
        staying = [Client(View()) for _ in servers]  # so that no ring is dropped
        for client, server in zip([*staying, *clients], servers * 3, strict=False):
            await client.connect(server)
        for _ in range(30):
            for _ in range(choose.randint(1, 20)):
                await take_step(choose, database, servers, clients)
            for server in servers:
                server.follow()
                server.hub.tick()
            await give_turns()
            for client in (*clients, *staying):
                assert client.items == summarize(client.view.list_items(database.board))
        for client in (*clients, *staying):
            await client.disconnect()

    asyncio.run(main())
