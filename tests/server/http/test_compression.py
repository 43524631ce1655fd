"""Compressed responses: which ones, in which pieces, and within the memory budget."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from typing import TYPE_CHECKING

import pytest

from progressbar_tracker.server.budget import CHUNK_BYTES
from progressbar_tracker.server.http import compression
from progressbar_tracker.server.http.compression import MIN_COMPRESSED_BYTES, accepts_gzip
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import httpx

    from tests.support.server import RunningServer


def put_items(server: RunningServer, count: int) -> None:
    http = server.client("write")
    for start in range(0, count, 500):
        ops = [
            {"op": "put", "id": f"job {n}", "run_id": "r", "title": f"Job {n}", "completed": n, "total": 9999}
            for n in range(start, min(start + 500, count))
        ]
        assert http.post("/api/v1/items:batch", json={"ops": ops}).status_code == 200


def read_raw(server: RunningServer, path: str, accept: str, method: str = "GET") -> tuple[httpx.Response, bytes]:
    """Return a response and the bytes of its body as they were sent."""
    with server.client("read").stream(method, path, headers={"Accept-Encoding": accept}) as reply:
        return reply, b"".join(reply.iter_raw())


@pytest.mark.parametrize(
    ("header", "is_accepted"),
    [
        (b"gzip", True), (b"GZIP", True), (b"x-gzip", True), (b"deflate, gzip;q=1.0, *;q=0.5", True),
        (b"gzip;q=0.001", True), (b"gzip ; q = 0.5", True), (b"*", True), (b"*;q=0, gzip", True),
        (b"", False), (b"identity", False), (b"br", False), (b"gzip;q=0", False), (b"gzip;q=0.000", False),
        (b"gzip; q=0, *", False), (b"*;q=0", False), (b"gzipped", False), (b";q=1", False),
    ],
)  # fmt: skip
def test_accepted_encodings_are_parsed(header: bytes, is_accepted: bool) -> None:
    assert accepts_gzip(header) is is_accepted


@pytest.mark.parametrize("count", [10, 1000])
def test_list_is_compressed_for_a_client_that_accepts_it(server, count) -> None:
    put_items(server, count)
    plain, plain_body = read_raw(server, "/api/v1/items?limit=10000", "identity")
    reply, body = read_raw(server, "/api/v1/items?limit=10000", "gzip")
    assert gzip.decompress(body) == plain_body
    assert len(body) < len(plain_body) / 4
    assert (len(plain_body) > CHUNK_BYTES) == (count == 1000), "in one piece, and in several"
    assert (reply.headers["Content-Encoding"], "Content-Encoding" in plain.headers) == ("gzip", False)
    assert reply.headers["Vary"] == plain.headers["Vary"] == "accept-encoding"
    assert reply.headers["ETag"] == plain.headers["ETag"]
    assert reply.headers["ETag"].startswith("W/")


@pytest.mark.parametrize("accept", ["gzip;q=0", "br", "identity, *;q=0"])
def test_list_is_not_compressed_for_other_clients(server, accept) -> None:
    put_items(server, 10)
    reply, body = read_raw(server, "/api/v1/items", accept)
    assert body.startswith(b'{"items":[')
    assert "Content-Encoding" not in reply.headers


def test_small_body_is_not_compressed(server) -> None:
    reply, body = read_raw(server, "/api/v1/items", "gzip")
    assert len(body) < MIN_COMPRESSED_BYTES
    assert (body.startswith(b'{"items":['), "Content-Encoding" in reply.headers) == (True, False)
    assert reply.headers["Vary"] == "accept-encoding"


@pytest.mark.parametrize("count", [10, 1000])
def test_head_has_the_headers_of_a_compressed_get(server, count) -> None:
    put_items(server, count)
    reply, body = read_raw(server, "/api/v1/items?limit=10000", "gzip")
    head, nothing = read_raw(server, "/api/v1/items?limit=10000", "gzip", "HEAD")
    assert (nothing, head.headers["Content-Encoding"], head.headers["ETag"]) == (b"", "gzip", reply.headers["ETag"])
    assert head.headers.get("Content-Length") == reply.headers.get("Content-Length")
    assert head.headers.get("Content-Length") in {None, str(len(body))}


def test_unchanged_list_is_a_304_without_encoding(server) -> None:
    put_items(server, 10)
    http = server.client("read")
    etag = http.get("/api/v1/items").headers["ETag"]
    reply = http.get("/api/v1/items", headers={"If-None-Match": etag})
    assert (reply.status_code, reply.content, "Content-Encoding" in reply.headers) == (304, b"", False)
    assert reply.headers["Vary"] == "accept-encoding"


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/api/v1/history.json", "/api/v1/history.csv"])
def test_page_and_export_are_compressed(server, path) -> None:
    put_items(server, 20)
    for n in range(20):
        server.client("write").delete(f"/api/v1/items/job%20{n}")
    _, plain_body = read_raw(server, path, "identity")
    reply, body = read_raw(server, path, "gzip")
    assert reply.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body)[:500] == plain_body[:500]


def test_large_list_over_http_1_0_ends_with_the_connection(server) -> None:
    from tests.support.connections import RawConnection

    put_items(server, 1000)
    with RawConnection(server.url) as raw:
        raw.send(
            b"GET /api/v1/items?limit=10000 HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n"
            b"X-API-KEY: %b\r\n\r\n" % server.keys["read"].encode()
        )
        received = b""
        while part := raw.socket.recv(65536):
            received += part
    assert gzip.decompress(received.partition(b"\r\n\r\n")[2]).endswith(b"}")


def test_memory_of_a_compressed_list_is_charged_and_released(server, monkeypatch) -> None:
    put_items(server, 1000)
    budget = server.background.app.services.budget
    monkeypatch.setattr(budget, "max_holder_bytes", 2 * CHUNK_BYTES + compression.COMPRESSOR_BYTES - 1)
    assert server.client("read").get("/api/v1/items").status_code == 503
    assert server.client("read", **{"Accept-Encoding": "identity"}).get("/api/v1/items").status_code == 200
    monkeypatch.undo()
    assert server.client("read").get("/api/v1/items").status_code == 200
    wait_until(lambda: budget.held_bytes == 0)  # the client has the last bytes before the server knows


def test_other_tasks_run_between_compressed_pieces() -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        for _ in range(50):
            yield b"x" * CHUNK_BYTES  # so regular that the compressor holds most of it back

    async def main() -> tuple[bytes, int]:
        turn_count = 0

        async def count_turns() -> None:
            nonlocal turn_count
            while True:
                turn_count += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count_turns())
        body = b"".join([part async for part in compression._compress_pieces(pieces())])
        other.cancel()
        return body, turn_count

    body, turn_count = asyncio.run(main())
    assert zlib.decompress(body, 31) == b"x" * CHUNK_BYTES * 50
    assert turn_count >= 50


def test_abandoned_compression_closes_its_source() -> None:
    closed = []

    async def pieces() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"".join(b"%d" % n for n in range(20_000))
        finally:
            closed.append(True)

    async def main() -> None:
        stream = compression._compress_pieces(pieces())
        await anext(stream)
        await stream.aclose()

    asyncio.run(main())
    assert closed == [True]
