"""Exceptions that end runs: their classification, the text of groups, and loops whose exception ends the program."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import itertools

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker import track
from progressbar_tracker._endings import get_primary_failure, is_stop, iter_failures, map_fatal_errors
from progressbar_tracker._models import MAX_ERROR_LENGTH
from progressbar_tracker._tracking.run import classify_error, format_error
from progressbar_tracker.testing import recording
from tests.support.programs import get_final_item, run_program


def make_lookalike(module, name, *bases, **attributes):
    """Return an error class with the module and name of a library that may not be installed."""
    return type(name, bases or (BaseException,), {"__module__": module, "__qualname__": name, **attributes})


def make_library_error(module, name, *arguments):
    """Return an error of a library, or of a lookalike class if the library is not installed."""
    try:
        error_class = getattr(importlib.import_module(module), name)
    except ImportError:
        error_class = make_lookalike(module, name)
    is_private = hasattr(error_class, "_create")  # only trio can create its errors
    return make_lookalike(error_class.__module__, error_class.__qualname__)() if is_private else error_class(*arguments)


def make_exit(module, code):
    return make_lookalike(module, "Exit", RuntimeError, exit_code=code)()


class OwnCancelled(asyncio.CancelledError):
    pass


class OwnExit(click.exceptions.Exit):
    pass


class CancelledError(Exception):
    """Has only the name of asyncio's class."""


class HostileCode:
    def __eq__(self, other):
        raise ArithmeticError

    __hash__ = None


ERROR_GROUPS = {
    "group of cancellations": BaseExceptionGroup("", [asyncio.CancelledError(), concurrent.futures.CancelledError()]),
    "nested group of stops": BaseExceptionGroup(
        "", [BaseExceptionGroup("", [make_library_error("trio", "Cancelled")]), SystemExit(0)]
    ),
}

STOP_ERRORS = {
    "asyncio": asyncio.CancelledError(),
    "asyncio with a message": asyncio.CancelledError("enough"),
    "derived from asyncio's": OwnCancelled(),
    "concurrent.futures": concurrent.futures.CancelledError(),
    "dask.distributed": make_lookalike("distributed.client", "Gone", concurrent.futures.CancelledError)(),
    "trio": make_library_error("trio", "Cancelled"),
    "trio's own module": make_lookalike("trio._core._exceptions", "Cancelled")(),
    "greenlet": make_library_error("greenlet", "GreenletExit"),
    "gevent": make_library_error("gevent", "GreenletExit"),
    "eventlet": make_library_error("greenlet", "GreenletExit"),
    "curio": make_lookalike("curio.errors", "TaskCancelled", make_lookalike("curio.errors", "CancelledError"))(),
    "twisted": make_lookalike("twisted.internet.defer", "CancelledError", Exception)(),
    "generator": GeneratorExit(),
    "sys.exit()": SystemExit(),
    "sys.exit(None)": SystemExit(None),
    "sys.exit(0)": SystemExit(0),
    "sys.exit(False)": SystemExit(False),
    "click.exceptions.Exit(0)": click.exceptions.Exit(0),
    "derived from click's": OwnExit(),
    "typer.Exit()": make_library_error("typer", "Exit")
    if importlib.util.find_spec("typer")
    else make_exit("typer.exceptions", 0),
    **ERROR_GROUPS,
}

FAILURE_ERRORS = {
    "ValueError: bad row": ValueError("bad row"),
    "ValueError": ValueError(),
    "KeyboardInterrupt": KeyboardInterrupt(),
    "SystemExit: 3": SystemExit(3),
    "SystemExit: no disk": SystemExit("no disk"),
    "SystemExit: 0.0": SystemExit(0.0),  # the interpreter prints it and exits with 1
    "Exit: 1": click.exceptions.Exit(1),
    "Abort": click.Abort(),
    "StopIteration": StopIteration(),
    "StopAsyncIteration": StopAsyncIteration(),
    "TimeoutError": TimeoutError(),
    "CancelledError": CancelledError(),
    "Cancelled": make_lookalike("trionic", "Cancelled")(),
    "ValueError: one (and 2 others)": ExceptionGroup("", [ValueError("one"), KeyError(2), OSError()]),
    "KeyError: 2 (and 1 other)": ExceptionGroup("", [ExceptionGroup("", [KeyError(2)]), OSError()]),
    "OSError": BaseExceptionGroup("", [asyncio.CancelledError(), OSError()]),
    "KeyboardInterrupt (and 1 other)": BaseExceptionGroup("", [KeyboardInterrupt(), SystemExit(1)]),
}


@pytest.mark.parametrize("kind", STOP_ERRORS)
def test_request_to_stop_is_classified_as_stopped(kind):
    assert classify_error(STOP_ERRORS[kind]) == ("stopped", None)


@pytest.mark.parametrize("text", FAILURE_ERRORS)
def test_other_exception_is_classified_as_failed_with_its_text(text):
    assert classify_error(FAILURE_ERRORS[text]) == ("failed", text)


def test_an_exit_code_that_cannot_be_compared_is_a_failure():
    assert classify_error(SystemExit(HostileCode()))[0] == "failed"


@pytest.mark.parametrize("kind", STOP_ERRORS)
def test_block_with_a_request_to_stop_is_stopped(kind):
    with recording() as recorded:
        with contextlib.suppress(BaseException), track(total=3, id="job", display=False):
            raise STOP_ERRORS[kind]
    assert (recorded["job"].status, recorded["job"].error) == ("stopped", None)


def test_a_user_can_fail_a_bar_with_a_cancellation():
    assert format_error(asyncio.CancelledError()) == "CancelledError"
    assert format_error(ERROR_GROUPS["group of cancellations"]) == "CancelledError (and 1 other)"


def test_cut_error_text_keeps_the_number_of_other_errors():
    text = format_error(ExceptionGroup("", [ValueError("x" * 5000), OSError()]))
    assert len(text) == MAX_ERROR_LENGTH
    assert text.endswith("x… (and 1 other)")


# --- properties of groups ---------------------------------------------------------------------------------------------

LEAF_ERRORS = st.one_of(
    st.integers(0, 99).map(ValueError),
    st.builds(asyncio.CancelledError),
    st.integers(0, 2).map(SystemExit),
    st.builds(KeyboardInterrupt),
)
ERROR_TREES = st.recursive(
    LEAF_ERRORS, lambda inner: st.lists(inner, min_size=1).map(lambda errors: BaseExceptionGroup("", errors))
)


def flatten(error):
    if isinstance(error, BaseExceptionGroup):
        return list(itertools.chain.from_iterable(map(flatten, error.exceptions)))
    return [error]


@given(ERROR_TREES)
def test_group_is_classified_by_its_leaves(error):
    failures = [leaf for leaf in flatten(error) if not is_stop(leaf)]
    assert list(iter_failures(error)) == failures
    assert is_stop(error) is (not failures)
    if failures:
        assert get_primary_failure(error) == (failures[0], len(failures) - 1)


def test_exception_in_many_groups_is_counted_once():
    error = ValueError("one")
    for _ in range(200):
        error = ExceptionGroup("", [error, error])
    assert format_error(error) == "ValueError: one"


# --- fatal errors -----------------------------------------------------------------------------------------------------


def raise_value_error():
    raise ValueError("bad row")


def raise_cancelled():
    raise asyncio.CancelledError


def catch_error(function):
    try:
        function()
    except BaseException as error:
        return error


def raise_and_catch(error, *cause):
    try:
        if cause:
            raise error from cause[0]
        raise error
    except BaseException as same:
        return same


def raise_while_handling(function, error, *cause):
    try:
        function()
    except BaseException:
        return raise_and_catch(error, *cause)


def make_group(*errors):
    return BaseExceptionGroup("unhandled", errors)


FATAL_ERRORS = {
    "itself": (catch_error(raise_value_error), "ValueError: bad row"),
    "in a group": (make_group(catch_error(raise_value_error)), "ValueError: bad row"),
    "in a nested group": (
        make_group(KeyError(1), make_group(catch_error(raise_value_error))),
        "ValueError: bad row (and 1 other)",
    ),
    "second of a group": (
        make_group(OSError(), catch_error(raise_value_error), OSError()),
        "ValueError: bad row (and 2 others)",
    ),
    "a cause": (raise_and_catch(KeyError(1), catch_error(raise_value_error)), "KeyError: 1"),
    "a cause in a group": (make_group(raise_and_catch(KeyError(1), catch_error(raise_value_error))), "KeyError: 1"),
    "a group as the cause": (raise_and_catch(KeyError(1), make_group(catch_error(raise_value_error))), "KeyError: 1"),
    "handled": (raise_while_handling(raise_value_error, KeyError(1)), "KeyError: 1"),
    "handled, and hidden": (raise_while_handling(raise_value_error, KeyError(1), None), "KeyError: 1"),
    "both a cause and handled": (raise_while_handling(raise_value_error, KeyError(1), OSError()), "KeyError: 1"),
    "split off": (
        catch_error(
            lambda: (_ for _ in ()).throw(make_group(catch_error(raise_value_error), OSError()).split(ValueError)[0])
        ),
        "ValueError: bad row",
    ),
}


@pytest.mark.parametrize("case", FATAL_ERRORS)
def test_fatal_error_is_mapped_to_the_loop_it_came_through(case):
    fatal_error, text = FATAL_ERRORS[case]
    failure, others = map_fatal_errors(fatal_error)[raise_value_error.__code__]
    note = "" if not others else f" (and {others} other{'s' if others > 1 else ''})"
    assert format_error(failure) + note == text


@pytest.mark.parametrize(
    "fatal_error",
    [
        None,
        catch_error(raise_cancelled),
        make_group(catch_error(raise_cancelled)),
        make_group(ValueError("another"), catch_error(raise_cancelled)),
        raise_while_handling(raise_cancelled, make_group(ValueError("another")), None),
        raise_while_handling(raise_cancelled, make_group(ValueError("another"))),
    ],
    ids=["none", "itself", "alone in a group", "in a group", "behind a task group", "behind a group that shows it"],
)
def test_cancelled_loop_is_not_mapped_to_a_fatal_error(fatal_error):
    assert raise_cancelled.__code__ not in map_fatal_errors(fatal_error)


def test_replaced_cancellation_is_mapped_to_the_fatal_error():
    assert raise_cancelled.__code__ in map_fatal_errors(raise_while_handling(raise_cancelled, KeyboardInterrupt()))
    assert raise_cancelled.__code__ in map_fatal_errors(raise_and_catch(TimeoutError(), catch_error(raise_cancelled)))


def test_cyclic_exception_chain_ends():
    first, second = ValueError(1), ValueError(2)
    first.__context__, second.__context__ = second, first
    assert map_fatal_errors(make_group(first, second)) == {}


# --- programs ---------------------------------------------------------------------------------------------------------

LOOP_CODE = """
async def rows():
    for i in track(range(5), id="job"):
        flush(20)
        if i == 2: raise ValueError("bad row")
"""
OTHER_CODE = """
async def other():
    raise KeyError("other")
"""
CANCELLED_LOOP = """
async def source():
    for i in range(5): yield i
async def rows():
    async for i in track(source(), id="job"):
        if i == 2:
            flush(20)
            started.set()
            await asyncio.sleep(60)
async def other():
    await started.wait()
    raise KeyError("other")
"""

PROGRAM_CODE = {
    "task group": (LOOP_CODE + """
async def main():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rows())
asyncio.run(main())
""", "failed", "ValueError: bad row"),
    "task group in a task group": (LOOP_CODE + OTHER_CODE + """
async def inner():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rows())
async def main():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inner())
        tasks.create_task(other())
asyncio.run(main())
""", "failed", "ValueError: bad row (and 1 other)"),
    "sibling of a failure": (CANCELLED_LOOP + """
async def main():
    global started
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rows())
        tasks.create_task(other())
asyncio.run(main())
""", "stopped", None),
    "body of a task group that fails": (CANCELLED_LOOP + """
async def main():
    global started
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(other())
        await rows()
asyncio.run(main())
""", "stopped", None),
    "time-out": (CANCELLED_LOOP + """
async def main():
    global started
    started = asyncio.Event()
    async with asyncio.timeout(0.1):
        await rows()
asyncio.run(main())
""", "failed", "TimeoutError"),
    "except* that raises": (LOOP_CODE + """
async def main():
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rows())
    except* ValueError as errors:
        raise RuntimeError("no rows") from errors
asyncio.run(main())
""", "failed", "RuntimeError: no rows"),
    "except* that raises the same": (LOOP_CODE + OTHER_CODE + """
async def main():
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rows())
            tasks.create_task(other())
    except* KeyError:
        pass
asyncio.run(main())
""", "failed", "ValueError: bad row"),
    "except* that forgives": (LOOP_CODE + """
async def main():
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rows())
    except* ValueError:
        pass
asyncio.run(main())
""", "stopped", None),
    "thread pool": ("""
from concurrent.futures import ThreadPoolExecutor
""" + LOOP_CODE.replace("async ", "") + """
with ThreadPoolExecutor() as pool:
    futures = [pool.submit(rows)]
raise ExceptionGroup("tasks", [future.exception() for future in futures])
""", "failed", "ValueError: bad row"),
    "anyio": ("import anyio\n" + LOOP_CODE + OTHER_CODE + """
async def main():
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rows)
        tasks.start_soon(other)
anyio.run(main)
""", "failed", "ValueError: bad row (and 1 other)"),
    "anyio, sibling of a failure": ("import anyio\n" + CANCELLED_LOOP + """
async def main():
    global started
    started = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await rows()
anyio.run(main)
""", "stopped", None),
    "trio": ("import trio\n" + LOOP_CODE + """
async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rows)
trio.run(main)
""", "failed", "ValueError: bad row"),
    "trio, sibling of a failure": ("import trio\n" + CANCELLED_LOOP.replace("asyncio.sleep", "trio.sleep") + """
async def main():
    global started
    started = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rows)
        nursery.start_soon(other)
trio.run(main)
""", "stopped", None),
    "trio, a block": ("import trio\n" + CANCELLED_LOOP.replace("asyncio.sleep", "trio.sleep") + """
async def block():
    with track(total=5, id="job") as bar:
        flush(20)
        started.set()
        await trio.sleep(60)
async def main():
    global started
    started = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(block)
        nursery.start_soon(other)
trio.run(main)
""", "stopped", None),
    "gevent, a block": ("import gevent\n" + """
def block():
    with track(total=5, id="job") as bar:
        flush(20)
        gevent.sleep(60)
task = gevent.spawn(block)
gevent.sleep(0)
task.kill()
""", "stopped", None),
    "click, Exit(0)": ("import click\n" + """
@click.command()
def main():
    with track(total=5, id="job") as bar:
        flush(20)
        click.get_current_context().exit()
main()
""", "stopped", None),
    "tqdm in a task group": ("from progressbar_tracker.tqdm import tqdm\n" + LOOP_CODE.replace("track(", "tqdm(") + """
async def main():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(rows())
asyncio.run(main())
""", "failed", "ValueError: bad row"),
    "block round a task group": (LOOP_CODE.replace("job", "inner") + OTHER_CODE + """
async def main():
    with track(total=2, id="job"):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(rows())
            tasks.create_task(other())
asyncio.run(main())
""", "failed", "ValueError: bad row (and 1 other)"),
}  # fmt: skip


@pytest.mark.parametrize("case", PROGRAM_CODE)
def test_program_with_tasks_reports_the_end_of_its_loop(faults, tmp_path, case):
    code, status, error = PROGRAM_CODE[case]
    for library in ("anyio", "trio", "gevent"):
        if f"import {library}\n" in code:
            pytest.importorskip(library)
    _, _, err = run_program(faults.url, "import asyncio\n" + code, tmp_path)
    item = get_final_item(faults)
    assert (item["status"], item.get("error")) == (status, error), err
