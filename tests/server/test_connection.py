"""A connection: what of an answer leaves together."""

from __future__ import annotations

import asyncio

from progressbar_tracker.server.connection import _Joining

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.get_extra_info = self.is_closing = self.pause_reading = self.resume_reading = lambda *_: None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


def run(*writes: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return what was written at once, and what a turn of the loop later."""

    async def main() -> tuple[list[bytes], list[bytes]]:
        transport = Transport()
        joining = _Joining(transport, asyncio.get_running_loop())
        for data in writes:
            joining.write(data)
        at_once = list(transport.written)
        await asyncio.sleep(0)
        return at_once, transport.written

    return asyncio.run(main())


def test_head_and_body_leave_in_one_piece() -> None:
    assert run(HEAD, b"body") == ([HEAD + b"body"], [HEAD + b"body"])


def test_the_head_of_a_stream_that_has_nothing_to_say_leaves_by_itself() -> None:
    assert run(HEAD) == ([], [HEAD])


def test_what_a_stream_goes_on_with_is_not_held_back() -> None:
    assert run(HEAD, b"1", b"2", b"3")[0] == [HEAD + b"1", b"2", b"3"]


def test_closing_takes_what_was_held_along() -> None:
    async def main() -> Transport:
        transport = Transport()
        joining = _Joining(transport, asyncio.get_running_loop())
        joining.write(HEAD)
        joining.close()
        await asyncio.sleep(0)
        return transport

    transport = asyncio.run(main())
    assert (transport.written, transport.closed) == ([HEAD], True)
