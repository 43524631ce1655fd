"""The public face as type checkers see it: never run, only checked by mypy and pyright, both strict.

A line that they have to refuse carries an ignore comment; one that is not needed is an error itself.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, assert_type

from progressbar_tracker import (
    AsyncProgressBar,
    ConfigError,
    ConflictError,
    Item,
    ItemExistsError,
    ItemNotFoundError,
    KeyInfo,
    PermissionError,
    ProgressBar,
    ProgressBarError,
    RateLimitedError,
    ResponseError,
    ServerError,
    Tracker,
    TrackingWarning,
    TransportError,
    ValidationError,
    configure,
    flush,
    stats,
    track,
)
from progressbar_tracker.tqdm import mirror, tenumerate, thread_map, tqdm, trange

if TYPE_CHECKING:
    import builtins
    from collections.abc import AsyncIterator, Iterator

    import httpx


def lines() -> Iterator[str]:
    yield "a line"


async def ticks() -> AsyncIterator[float]:
    yield 0.0


class Rows:
    """A source of the user's own."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b""])


def loops() -> None:
    assert_type(track([1, 2, 3]), Tracker[int])
    assert_type(track(range(3)), Tracker[int])
    assert_type(track("text"), Tracker[str])
    assert_type(track({"a": 1.0}.items()), Tracker[tuple[str, float]])
    assert_type(track(Rows()), Tracker[bytes])
    assert_type(track(enumerate(lines())), Tracker[tuple[int, str]])
    for number in track([1, 2, 3], id="numbers"):
        assert_type(number, int)
    for line in track(lines(), total=10):
        assert_type(line, str)
    assert_type(len(track([1])), int)
    assert_type(list(track(lines())), list[str])


async def asynchronous_loops() -> None:
    assert_type(track(ticks()), Tracker[float])
    async for tick in track(ticks(), id="ticks"):
        assert_type(tick, float)


def blocks(error: ValueError) -> None:
    with track(total=100, id="upload", unit="B") as bar:
        assert_type(bar, Tracker[None])
        assert_type(bar.advance(), None)
        bar.advance(4096)
        bar.advance(0.5)
        bar.update(completed=5, total=10.5, title="T", description="d", weight=3)
        bar.title, bar.description, bar.total, bar.weight = "T", "d", 10.5, 3
        bar.title = None
        bar.total = None
        assert_type(bar.id, str)
        assert_type(bar.completed, int | float)
        bar.fail("out of paper")
        bar.fail(error)
        bar.close()
    with track([1, 2]) as loop:
        assert_type(loop, Tracker[int])
        for number in loop:
            assert_type(number, int)


def every_keyword(pb: ProgressBar, apb: AsyncProgressBar) -> None:
    track(
        None,
        id="x",
        title="X",
        description="d",
        total=1.5,
        unit="B",
        weight=1,
        group="g",
        keep=True,
        notify=["phone"],
        deadline=3600,
        stuck_after=600,
        interval=0.5,
        client=pb,
        display=False,
    )
    track([1], stuck_after=None)
    track([1], stuck_after="auto")
    track([1], stuck_after="off")  # type: ignore[call-overload]
    track([1], id=None, title=None, total=None, group=None, client=apb, display=None)
    track([1], 5)  # type: ignore[call-overload]
    track([1], weight="1")  # type: ignore[call-overload]
    track([1], colour="blue")  # type: ignore[call-overload]
    track(5)  # type: ignore[call-overload]


def client(network: httpx.BaseTransport) -> None:
    pb = ProgressBar("http://h", "key")
    pb = ProgressBar(api_url="http://h", api_key="key", auto_detect=False, timeout=1.5, transport=network)
    pb = ProgressBar("http://h", "key", False, timeout=1, transport=None)
    items = pb.get_all()
    assert_type(items, list[Item])
    assert_type(items[0]["value"], float)
    assert_type(items[0]["title"], str)
    assert_type(pb.get("x"), Item)
    assert_type(pb.create("x", "X", "d", 0.5), None)
    assert_type(pb.create(item_id="x", title="X", description="d", value=0, weight=100), None)
    assert_type(pb.update("x", "X", "d", 1, weight=100), None)
    assert_type(pb.patch("x", completed=3, total=4, stuck_after=None), Item)
    pb.patch("x", colour="blue")  # type: ignore[call-arg]
    assert_type(pb.delete("x"), bool)
    assert_type(pb.is_admin(), bool)
    assert_type(pb.is_read_only(), bool)
    assert_type(pb.can_write(), bool)
    assert_type(pb.can_delete(), bool)
    assert_type(pb.key_info, KeyInfo)
    assert_type(pb.key_info.permissions, tuple[str, ...])
    assert_type(pb.track(lines(), id="x"), Tracker[str])
    assert_type(pb.track(total=5), Tracker[None])
    assert_type(pb.track(), Tracker[None])
    assert_type(pb.sender.flush(5.0), bool)
    assert_type(pb.close(), None)
    with ProgressBar("http://h", "key") as same:
        assert_type(same, ProgressBar)
    pb.create("x", "X", "d", "0.5")  # type: ignore[arg-type]
    ProgressBar("http://h", "key", True, 5)  # type: ignore[call-arg]


async def asynchronous_client(network: httpx.AsyncBaseTransport) -> None:
    apb = AsyncProgressBar("http://h", "key", False, timeout=1.5, transport=network)
    assert_type(await apb.get_all(), list[Item])
    assert_type(await apb.get("x"), Item)
    assert_type(await apb.create("x", "X", "d", 0.5), None)
    assert_type(await apb.update(item_id="x", title="X", description="d", value=1, weight=100), None)
    assert_type(await apb.delete("x"), bool)
    assert_type(await apb.is_admin(), bool)
    assert_type(await apb.is_read_only(), bool)
    assert_type(await apb.can_write(), bool)
    assert_type(await apb.can_delete(), bool)
    assert_type(apb.key_info, Awaitable[KeyInfo])
    assert_type(await apb.key_info, KeyInfo)
    assert_type(apb.track(ticks()), Tracker[float])
    assert_type(apb.track(total=5), Tracker[None])
    assert_type(await apb.close(), None)
    async with AsyncProgressBar("http://h", "key") as same:
        assert_type(same, AsyncProgressBar)


def functions() -> None:
    configure(url="http://h", api_key="key", path=Path("config.toml"))
    configure()
    assert_type(flush(), bool)
    assert_type(flush(timeout=1.0), bool)
    assert_type(stats().dropped, int)


def errors(pb: ProgressBar) -> None:
    try:
        pb.get_all()
    except PermissionError as refused:
        assert_type(refused.status_code, int)
        assert_type(refused.code, str)
        assert_type(refused.detail, str)
        assert_type(refused.retry_after, float | None)
    except TransportError as away:
        assert_type(away.method, str)
        assert_type(away.url, str)
    roots: list[type[ProgressBarError]] = [ConfigError, TransportError, ResponseError]
    refusals: list[type[ResponseError]] = [ConflictError, RateLimitedError, ServerError, PermissionError]
    values: list[type[ValueError]] = [ConfigError, ValidationError, ItemNotFoundError, ItemExistsError]
    builtin: type[builtins.PermissionError] = PermissionError
    warning: type[UserWarning] = TrackingWarning
    del roots, refusals, values, builtin, warning


async def check_dropin_types() -> None:
    for n in tqdm([1, 2], desc="numbers", id="numbers", keep=True):
        assert_type(n, int)
    for n in trange(3):
        assert_type(n, int)
    for i, word in tenumerate(["a"]):
        assert_type((i, word), tuple[int, str])
    with tqdm(["a"], total=1) as bar:
        assert_type(bar, tqdm[str])
        assert_type(bar.update(2), bool | None)
        bar.set_postfix(loss=0.5)
        for word in bar:
            assert_type(word, str)
    assert_type(thread_map(len, ["a"]), list[int])
    assert_type(mirror(bar, id="again"), tqdm[str])
