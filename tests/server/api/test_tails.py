"""The output tail of a run over real sockets, on both stores: who writes it, who reads it, and where it never is."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker._http.messages import quote_id
from progressbar_tracker._models import MAX_ERROR_LENGTH, MAX_TAIL_BYTES
from progressbar_tracker.server.items import tail_quota
from progressbar_tracker.server.items.output import MAX_INLINE_LENGTH, clean_output
from progressbar_tracker.server.stores.reading import MIN_TAIL_SIZE
from tests.support.clock import ManualClock
from tests.support.postgres import create_database
from tests.support.server import RunningServer
from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import httpx

    from progressbar_tracker.server.items.validation import WriteFields

MARKED_TEXT = "a-line-of-the-output"


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clock: ManualClock
) -> Iterator[RunningServer]:
    """A server on each kind of store, with a read key that reads tails; each test uses its own ids."""
    folder = tmp_path_factory.mktemp("tails")
    url = None if request.param == "sqlite" else create_database(request.getfixturevalue("postgres_cluster"))
    served = RunningServer(folder, clock, database=url, public_read=True)
    body = {"type": "read", "name": "tails", "read_tail": True}
    served.keys["tail reader"] = served.client("admin").post("/api/v1/keys", json=body).json()["key"]
    yield served
    served.stop()


def write(http: httpx.Client, item_id: str, tail: object, **fields: object) -> httpx.Response:
    return http.put(f"/api/v1/items/{quote_id(item_id)}", json={"run_id": "r", "tail": tail, **fields})


def read(served: RunningServer, item_id: str, run_id: str | None = None, key: str = "admin") -> dict[str, object]:
    query = {} if run_id is None else {"run_id": run_id}
    reply = served.client(key).get(f"/api/v1/tails/{quote_id(item_id)}", params=query)
    assert reply.status_code == 200, reply.text
    document: dict[str, object] = reply.json()
    return document


@pytest.mark.parametrize("item_id", ["a/b c", "%", "x:stop", "ünï😀", "trailing/", ".."])
def test_tail_of_a_write_is_returned(served: RunningServer, clock: ManualClock, item_id: str) -> None:
    assert write(served.client("write"), item_id, "one\ntwo é😀\n").status_code == 201
    now = datetime.fromtimestamp(clock(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert read(served, item_id) == {"id": item_id, "run_id": "r", "tail": "one\ntwo é😀", "updated_at": now}


def test_each_write_replaces_the_tail_or_keeps_it(served: RunningServer) -> None:
    http = served.client("write")
    write(http, "replaced", "old")
    ops = [{"op": "patch", "id": "replaced", "run_id": "r", "tail": "new"}, {"op": "patch", "id": "replaced"}]
    assert [result["status"] for result in http.post("/api/v1/items:batch", json={"ops": ops}).json()["results"]] == [
        200, 200,
    ]  # fmt: skip
    assert read(served, "replaced")["tail"] == "new"
    http.patch("/api/v1/items/replaced", json={"tail": None})
    assert read(served, "replaced")["tail"] == ""


def test_run_without_a_tail_has_an_empty_one(served: RunningServer) -> None:
    served.client("write").put("/api/v1/items/without", json={"run_id": "r"})
    assert read(served, "without") == {"id": "without", "run_id": "r", "tail": "", "updated_at": None}


def test_each_run_keeps_its_tail_in_the_history(served: RunningServer) -> None:
    http = served.client("write")
    write(http, "again", "first")
    write(http, "again", "second", run_id="s")
    http.patch("/api/v1/items/again", json={"status": "failed", "tail": "last words"})
    assert http.delete("/api/v1/items/again").status_code == 200
    assert [read(served, "again", run)["tail"] for run in ("r", "s", None)] == ["first", "last words", "last words"]


def test_tail_survives_a_restart(served: RunningServer) -> None:
    write(served.client("write"), "restarted", "kept")
    served.restart()
    assert read(served, "restarted")["tail"] == "kept"


def test_secrets_are_masked_before_they_are_stored(served: RunningServer) -> None:
    secret = served.keys["admin"]
    write(served.client("write"), "masked", f"key {secret}\nDB_PASSWORD=hunter2\nhttps://u:hunter2@host/")
    assert read(served, "masked")["tail"] == "key ***\nDB_PASSWORD=***\nhttps://***@host/"


def test_unchanged_tail_is_304(served: RunningServer) -> None:
    http = served.client("write")
    write(http, "tagged", "text")
    reader = served.client("admin")
    tag = reader.get("/api/v1/tails/tagged").headers["ETag"]
    assert reader.get("/api/v1/tails/tagged", headers={"If-None-Match": tag}).status_code == 304
    http.patch("/api/v1/items/tagged", json={"tail": "next"})
    assert reader.get("/api/v1/tails/tagged", headers={"If-None-Match": tag}).json()["tail"] == "next"


@pytest.mark.parametrize("tail", ["x" * (MAX_TAIL_BYTES + 1), "é" * (MAX_TAIL_BYTES // 2 + 1), "\x1b[1m", "\0", 5, []])
def test_invalid_tail_is_refused_and_names_the_field(served: RunningServer, tail: object) -> None:
    op = {"op": "put", "id": "refused", "run_id": "r", "tail": tail}
    reply = served.client("write").post("/api/v1/items:batch", json={"ops": [op]})
    (result,) = reply.json()["results"]
    assert (result["status"], result["problem"]["field"]) == (422, "tail")
    assert served.client("admin").get("/api/v1/tails/refused").status_code == 404


def test_longest_tail_fits_into_a_batch(served: RunningServer) -> None:
    line = "é" * 999 + "\n"
    tail = (line * (MAX_TAIL_BYTES // len(line.encode()))).strip("\n")
    op = {"op": "put", "id": "longest", "run_id": "r", "tail": tail}
    reply = served.client("write").post("/api/v1/items:batch", json={"ops": [op]})
    assert reply.json()["results"][0]["status"] == 201
    assert read(served, "longest")["tail"] == tail


def test_single_write_beyond_64_kib_is_413(served: RunningServer) -> None:
    assert write(served.client("write"), "large", "x" * MAX_TAIL_BYTES).status_code == 413


def test_refused_or_repeated_write_stores_no_tail(served: RunningServer) -> None:
    http = served.client("write")
    write(http, "guarded", "own", seq=5)
    assert write(served.client("other"), "guarded", "foreign").status_code == 403
    assert write(http, "guarded", "outdated", seq=5).status_code == 200
    http.patch("/api/v1/items/guarded", json={"status": "failed", "seq": 6})
    assert http.patch("/api/v1/items/guarded", json={"tail": "late", "seq": 7}).status_code == 409
    assert read(served, "guarded")["tail"] == "own"


@pytest.mark.parametrize(("key", "status"), [
    ("read", 403), ("write", 403), ("other", 403), ("tail reader", 200), ("admin", 200), (None, 401),
])  # fmt: skip
def test_tail_needs_its_own_permission(served: RunningServer, key: str | None, status: int) -> None:
    write(served.client("write"), "guarded by permission", "text")
    reply = served.client(key).get("/api/v1/tails/guarded by permission")
    assert reply.status_code == status
    assert ("text" in reply.text) is (status == 200)


def test_key_info_names_the_permission(served: RunningServer) -> None:
    names = ("read", "write", "tail reader", "admin")
    permissions = {name: served.client(name).get("/api/key-info").json()["permissions"] for name in names}
    assert [("read_tail" in permissions[name]) for name in names] == [False, False, True, True]
    assert permissions["tail reader"] == ["read", "read_tail"]


def test_permission_survives_a_rotation_and_ends_with_the_key(served: RunningServer) -> None:
    admin = served.client("admin")
    made = admin.post("/api/v1/keys", json={"type": "write", "name": "rotated", "read_tail": True}).json()
    assert made["read_tail"] is True
    rotated = admin.post(f"/api/v1/keys/{made['key_id']}/rotate").json()
    write(served.client("write"), "rotated", "text")
    assert read(served, "rotated", key=rotated["key"])["tail"] == "text"
    admin.delete(f"/api/v1/keys/{made['key_id']}")
    assert served.client(rotated["key"]).get("/api/v1/tails/rotated").status_code == 401


def test_invalid_permission_is_refused(served: RunningServer) -> None:
    body = {"type": "read", "name": "n", "read_tail": "yes"}
    reply = served.client("admin").post("/api/v1/keys", json=body)
    assert (reply.status_code, reply.json()["field"]) == (422, "read_tail")


def test_no_other_response_contains_a_tail(served: RunningServer) -> None:
    http, admin = served.client("write"), served.client("admin")
    created = write(http, "everywhere", MARKED_TEXT, group="g")
    write(http, "ended", MARKED_TEXT, group="g")
    http.delete("/api/v1/items/ended")
    texts = [created.text]
    for subject in ({"item": "everywhere"}, {"group": "g"}):
        token = admin.post("/api/v1/shares", json=subject).json()["token"]
        texts += [served.client().get(f"/s/{token}{path}").text for path in ("", "/items", "/history")]
        texts.append(served.client().get(f"/badge/{token}.svg").text)
    for path in (
        "/progress", "/api/v1/items", "/api/v1/items/everywhere", "/api/v1/history", "/api/v1/history.csv",
        "/api/v1/history.json", "/api/v1/timeline", "/api/v1/curves?id=everywhere", "/metrics",
        "/", "/items/everywhere", "/items/ended", "/history",
    ):  # fmt: skip
        texts.append(admin.get(path).text)
    texts.append(str(SseStream(served, "admin").events.get(timeout=60)))
    assert not [text for text in texts if MARKED_TEXT in text]
    assert [text for text in texts if "everywhere" in text]


def test_tail_of_an_unknown_run_is_404(served: RunningServer) -> None:
    write(served.client("write"), "known", "text")
    for path in ("/api/v1/tails/unknown", "/api/v1/tails/known?run_id=other"):
        assert served.client("admin").get(path).status_code == 404


def test_batch_of_tails_keeps_each_with_its_item(served: RunningServer) -> None:
    ops = [{"op": "put", "id": f"many {n}", "run_id": "r", "tail": f"line {n}"} for n in range(50)]
    served.client("write").post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
    assert [read(served, f"many {n}")["tail"] for n in (0, 25, 49)] == ["line 0", "line 25", "line 49"]


def test_secrets_in_an_error_are_masked_before_it_is_stored(served: RunningServer) -> None:
    http = served.client("write")
    text = "exit code 1:\nlogin with password=hunter2 failed"
    single = http.put("/api/v1/items/error", json={"run_id": "r", "status": "failed", "error": text})
    op = {"op": "put", "id": "error of a batch", "run_id": "r", "status": "failed", "error": text}
    http.post("/api/v1/items:batch", json={"ops": [op]}).raise_for_status()
    documents = [single.json(), http.get("/api/v1/items/error of a batch").json()]
    assert [document["error"] for document in documents] == ["exit code 1:\nlogin with password=*** failed"] * 2


def test_masked_error_has_at_most_its_maximum_length(served: RunningServer) -> None:
    error = ("token=a " * MAX_ERROR_LENGTH)[:MAX_ERROR_LENGTH].rstrip()
    reply = served.client("write").put(
        "/api/v1/items/long error", json={"run_id": "r", "status": "failed", "error": error}
    )
    assert len(reply.json()["error"]) == MAX_ERROR_LENGTH


@pytest.mark.parametrize(("length", "is_elsewhere"), [(MAX_INLINE_LENGTH, False), (MAX_INLINE_LENGTH + 1, True)])
@pytest.mark.parametrize("is_batch", [False, True])
def test_long_output_is_masked_in_a_thread(
    served: RunningServer, monkeypatch: pytest.MonkeyPatch, length: int, is_elsewhere: bool, is_batch: bool
) -> None:
    """The event loop serves other requests meanwhile."""
    has_loop: list[bool] = []

    def clean(writes: Iterable[WriteFields]) -> None:
        with contextlib.suppress(RuntimeError):
            has_loop.append(asyncio.get_running_loop() is not None)
        clean_output(writes)

    monkeypatch.setattr("progressbar_tracker.server.api.output.clean_output", clean)
    http, name = served.client("write"), f"long {length} {is_batch}"
    tail = ("token=abcdef " * length)[:length]
    if is_batch:
        op = {"op": "put", "id": name, "run_id": "r", "tail": tail}
        http.post("/api/v1/items:batch", json={"ops": [op]}).raise_for_status()
    else:
        write(http, name, tail).raise_for_status()
    assert has_loop == [] if is_elsewhere else [True]
    assert str(read(served, name)["tail"]).startswith("token=*** token=***")


def test_key_that_ends_while_output_is_masked_writes_nothing(
    served: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = served.client("admin")
    made = admin.post("/api/v1/keys", json={"type": "write", "name": "ending"}).json()

    def clean(writes: Iterable[WriteFields]) -> None:
        admin.delete(f"/api/v1/keys/{made['key_id']}").raise_for_status()
        clean_output(writes)

    monkeypatch.setattr("progressbar_tracker.server.api.output.clean_output", clean)
    assert write(served.client(made["key"]), "ending", "x" * 5000).status_code == 401
    assert admin.get("/api/v1/items/ending").status_code == 404


def test_quota_drops_the_oldest_tails_of_a_key_only(
    served: RunningServer, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_quota, "MAX_KEY_TAIL_BYTES", 10 * MIN_TAIL_SIZE)
    monkeypatch.setattr(tail_quota, "CHECK_BYTES", 1)
    write(served.client("other"), "of another key", "text")
    http = served.client("admin")
    for n in range(30):
        clock.advance(0.01)
        write(http, f"quota {n}", "text", keep=True)
    kept = [n for n in range(30) if read(served, f"quota {n}")["tail"]]
    assert kept == list(range(30 - len(kept), 30))
    assert len(kept) in (9, 10)
    assert read(served, "of another key")["tail"] == "text"
