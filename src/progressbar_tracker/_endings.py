"""How exceptions end what they come through. The one place that classifies them, for loops, blocks, bars and programs.

A run ends in one of three ways: it *succeeded*, it was *stopped*, or it *failed*. An exception is a stop if it is a
request to stop: a cancellation, the end of a generator, or an exit without an error. Everything else is a failure,
``KeyboardInterrupt`` and an exit with a code included. A group is a stop if all that it holds are stops.

To teach this module another library, add a line to ``_CANCELLATION_CLASSES`` or ``_EXIT_CLASSES``. No library is
imported for it: a
class is recognized by its package and its name, and so is each class that is derived from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

    FatalErrors: TypeAlias = Mapping[CodeType, tuple[BaseException, int]]

# The package at the root and the class: libraries move their classes between modules of their own.
_CANCELLATION_CLASSES: Final = frozenset(
    {
        ("asyncio", "CancelledError"),  # anyio's too, on asyncio
        ("concurrent", "CancelledError"),  # and that of dask.distributed
        ("curio", "CancelledError"),
        ("greenlet", "GreenletExit"),  # gevent and eventlet
        ("trio", "Cancelled"),  # anyio's too, on trio
        ("twisted", "CancelledError"),
    }
)
_EXIT_CLASSES: Final = frozenset({("asyncclick", "Exit"), ("click", "Exit"), ("typer", "Exit")})  # with an exit_code


def is_stop(error: BaseException) -> bool:
    """Return whether an exception is a request to stop, and no failure.

    >>> is_stop(GeneratorExit()), is_stop(SystemExit(0)), is_stop(SystemExit(3)), is_stop(ValueError())
    (True, True, False, False)
    """
    return next(iter_failures(error), None) is None


def iter_failures(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that make this one a failure: itself or, of a group, its leaves in their order.

    >>> group = BaseExceptionGroup("", [ValueError(1), ExceptionGroup("", [KeyError(2)]), GeneratorExit()])
    >>> list(iter_failures(group))
    [ValueError(1), KeyError(2)]
    """
    return (leaf for leaf in _iter_leaves(error) if not _is_single_stop(leaf))


def get_primary_failure(error: BaseException) -> tuple[BaseException, int]:
    """Return the exception that names a failure, and how many others there are: of a group, its first leaf.

    >>> get_primary_failure(ExceptionGroup("two", [ValueError(1), KeyError(2)]))
    (ValueError(1), 1)
    """
    found = list(iter_failures(error)) or list(_iter_leaves(error))
    return found[0], len(found) - 1


def map_fatal_errors(fatal_error: BaseException | None) -> FatalErrors:
    """Map the code that a fatal exception came through to its failure, see :func:`get_primary_failure`.

    The failure of a group that came through some code is the one that is named for it. An exception came through the
    code of those as well that it was raised from, or while they were handled. A cancellation counts among these only
    if another exception stands for it, such as the ``KeyboardInterrupt`` of ``asyncio.run()`` or the ``TimeoutError``
    of ``asyncio.timeout()``: a task group that fails cancels what it holds, and hides that.
    """
    if fatal_error is None or is_stop(fatal_error):
        return {}
    first, others = get_primary_failure(fatal_error)
    found: dict[CodeType, tuple[BaseException, int]] = {}
    seen: set[tuple[int, bool]] = set()
    for error in iter_failures(fatal_error):
        for code in _iter_code_objects(error, seen):
            found.setdefault(code, (error, others))
    for code in _iter_code_objects(fatal_error, seen):
        found.setdefault(code, (first, others))
    return found


def _iter_leaves(error: BaseException) -> Iterator[BaseException]:
    waiting, seen = [error], {id(error)}
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            for member in reversed(one.exceptions):
                if id(member) not in seen:  # one exception may be in several groups
                    seen.add(id(member))
                    waiting.append(member)
        else:
            yield one


def _is_single_stop(error: BaseException) -> bool:
    if isinstance(error, GeneratorExit):
        return True
    if isinstance(error, SystemExit):
        return _is_success(error.code)
    for kind in type(error).__mro__:
        name = (str(kind.__module__).partition(".")[0], kind.__qualname__)
        if name in _CANCELLATION_CLASSES:
            return True
        if name in _EXIT_CLASSES:
            return _is_success(getattr(error, "exit_code", None))
    return False


def _is_success(code: object) -> bool:
    # Any other object is printed by the interpreter, which exits with 1.
    return code is None or (isinstance(code, int) and code == 0)


def _iter_code_objects(error: BaseException, seen: set[tuple[int, bool]]) -> Iterator[CodeType]:
    """Yield the code that an exception and all that it is linked to came through, without what is ``seen``."""
    waiting = [(error, False)]
    while waiting:
        one, stands_for_stop = waiting.pop()
        if (id(one), stands_for_stop) in seen:
            continue
        seen.add((id(one), stands_for_stop))
        if stands_for_stop or not is_stop(one):
            step = one.__traceback__
            while step is not None:
                yield step.tb_frame.f_code
                step = step.tb_next
        replaces = not isinstance(one, BaseExceptionGroup)
        if isinstance(one, BaseExceptionGroup):
            waiting += [(member, False) for member in one.exceptions]
        if one.__cause__ is not None:
            waiting.append((one.__cause__, replaces))
        if one.__context__ is not None:
            waiting.append((one.__context__, replaces and not one.__suppress_context__))
