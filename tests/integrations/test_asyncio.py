"""``as_completed`` and ``gather`` with a bar."""

from __future__ import annotations

import asyncio
import sys

import pytest

from progressbar_tracker import track
from progressbar_tracker.integrations.asyncio import as_completed, gather


def final_state(recorded):
    (run,) = recorded.runs
    return run.status, run.completed, run.total, run.error


async def return_after(seconds, result):
    await asyncio.sleep(seconds)
    return result


async def raise_error():
    raise ValueError("line dropped")


def test_as_completed_yields_in_order_of_completion(recorder):
    async def main():
        results = []
        for done in as_completed([return_after(0.05, "late"), return_after(0, "soon")], id="x"):
            results.append(await done)
            assert recorder["x"].completed == len(results) - 1
        return results

    assert asyncio.run(main()) == ["soon", "late"]
    assert final_state(recorder) == ("succeeded", 2, 2, None)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio.as_completed is not an async iterable yet")
def test_as_completed_supports_async_for(recorder):
    async def main():
        late = asyncio.ensure_future(return_after(0.05, "late"))
        return [await done async for done in as_completed([late, return_after(0, "soon")], id="x")]

    assert asyncio.run(main()) == ["soon", "late"]
    assert final_state(recorder) == ("succeeded", 2, 2, None)


def test_as_completed_raises_awaitables_exception(recorder):
    async def main():
        with as_completed([raise_error(), return_after(0, 1)], id="x") as bar:
            for done in bar:
                await done

    with pytest.raises(ValueError, match="line dropped"):
        asyncio.run(main())
    assert final_state(recorder)[0] == "failed"


def test_as_completed_obeys_timeout(recorder):
    async def main():
        for done in as_completed([return_after(20, 1)], timeout=0.01, id="x"):
            await done

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert final_state(recorder)[0] == "stopped"


def test_gather_returns_ordered_results_and_counts(recorder):
    async def main():
        gate = asyncio.Event()

        async def last():
            await gate.wait()
            return "last"

        gathering = asyncio.ensure_future(gather(last(), return_after(0, "first"), id="x"))
        while recorder.runs == [] or recorder["x"].completed < 1:  # noqa: ASYNC110 - there is no event but the count
            await asyncio.sleep(0)
        assert (recorder["x"].status, recorder["x"].total) == ("running", 2)
        gate.set()
        return await gathering

    assert asyncio.run(main()) == ["last", "first"]
    assert final_state(recorder) == ("succeeded", 2, 2, None)


def test_gather_fails_with_text_and_stops_counting(recorder):
    async def main():
        other = asyncio.ensure_future(return_after(0.02, 1))
        with pytest.raises(ValueError, match="line dropped"):
            await gather(raise_error(), other, id="x")
        state = final_state(recorder)
        assert await other == 1  # continues, as in asyncio
        assert final_state(recorder) == state == ("failed", 1, 2, "ValueError: line dropped")

    asyncio.run(main())


def test_gather_returns_exceptions_on_request(recorder):
    async def main():
        return await gather(raise_error(), return_after(0, 1), return_exceptions=True, id="x")

    error, result = asyncio.run(main())
    assert (type(error), result) == (ValueError, 1)
    assert final_state(recorder) == ("succeeded", 2, 2, None)


def test_cancelled_gather_is_stopped_and_cancels_tasks(recorder):
    async def main():
        inner = asyncio.ensure_future(return_after(20, 1))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(gather(inner, id="x"), 0.02)
        assert inner.cancelled()

    asyncio.run(main())
    assert final_state(recorder) == ("stopped", 0, 1, None)


def test_repeated_awaitable_runs_once(recorder):
    async def main():
        once = return_after(0, 1)
        return await gather(once, once, id="x")

    assert asyncio.run(main()) == [1, 1]
    assert final_state(recorder) == ("succeeded", 1, 1, None)


def test_empty_gather_succeeds(recorder):
    async def main():
        return await gather(id="x")

    assert asyncio.run(main()) == []
    assert final_state(recorder) == ("succeeded", 0, 0, None)


def test_bars_of_gathered_tasks_are_nested(recorder):
    async def work():
        for _ in track([1], id="inner"):
            await asyncio.sleep(0)

    async def main():
        await gather(work(), id="outer")

    asyncio.run(main())
    assert recorder["inner"].parent == "outer"


@pytest.mark.parametrize(("options", "error"), [({"id": 5}, TypeError), ({"interval": 0}, ValueError)])
def test_invalid_options_are_refused_before_start(recorder, options, error):
    async def main():
        done = asyncio.get_running_loop().create_future()
        with pytest.raises(error):
            as_completed([done], **options)
        with pytest.raises(error):
            await gather(done, **options)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    assert len(recorder) == 0
