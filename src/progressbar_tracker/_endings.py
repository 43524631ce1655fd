"""Classify the exception that ends a loop, a block, a bar or a program.

A run ends in one of three ways: it *succeeded*, it was *stopped*, or it *failed*. An exception is a stop if it is a
request to stop: a cancellation, the end of a generator, or an exit without an error. Every other exception is a
failure, including ``KeyboardInterrupt`` and an exit with a code. An exception group is a stop if each exception in it
is one.

To support another library, add a line to ``_CANCELLATION_CLASSES`` or ``_EXIT_CLASSES``. No library is imported: a
class and its subclasses are recognized by the package and the name of the class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import CodeType

    FatalErrors: TypeAlias = Mapping[CodeType, tuple[BaseException, int]]

# The root package and the class, because libraries move their classes between modules.
_CANCELLATION_CLASSES: Final = frozenset(
    {
        ("asyncio", "CancelledError"),  # anyio's too, on asyncio
        ("concurrent", "CancelledError"),  # also for dask.distributed
        ("curio", "CancelledError"),
        ("greenlet", "GreenletExit"),  # gevent and eventlet
        ("progressbar_tracker", "StopRequested"),
        ("trio", "Cancelled"),  # anyio's too, on trio
        ("twisted", "CancelledError"),
    }
)
_EXIT_CLASSES: Final = frozenset({("asyncclick", "Exit"), ("click", "Exit"), ("typer", "Exit")})  # with an exit_code


def is_stop(error: BaseException) -> bool:
    """Return whether an exception is a request to stop, not a failure.

    >>> is_stop(GeneratorExit()), is_stop(SystemExit(0)), is_stop(SystemExit(3)), is_stop(ValueError())
    (True, True, False, False)
    """
    return next(iter_failures(error), None) is None


def iter_failures(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions that make this one a failure: itself, or the leaves of a group in their order.

    >>> group = BaseExceptionGroup("", [ValueError(1), ExceptionGroup("", [KeyError(2)]), GeneratorExit()])
    >>> list(iter_failures(group))
    [ValueError(1), KeyError(2)]
    """
    return (leaf for leaf in _iter_leaves(error) if not _is_single_stop(leaf))


def get_primary_failure(error: BaseException) -> tuple[BaseException, int]:
    """Return the exception that names a failure and the number of the others. For a group it is the first leaf.

    >>> get_primary_failure(ExceptionGroup("two", [ValueError(1), KeyError(2)]))
    (ValueError(1), 1)
    """
    failures = list(iter_failures(error)) or list(_iter_leaves(error))
    return failures[0], len(failures) - 1


def map_fatal_errors(fatal_error: BaseException | None) -> FatalErrors:
    """Map the code that a fatal exception came through to its failure, see :func:`get_primary_failure`.

    Each member of a group is the failure of the code that it came through. The code of an exception includes that of
    its causes and contexts. A cancellation among these counts only if another exception replaces it, such as the
    ``KeyboardInterrupt`` of ``asyncio.run()`` or the ``TimeoutError`` of ``asyncio.timeout()``. A task group that fails
    cancels its tasks too, and hides that.
    """
    if fatal_error is None or is_stop(fatal_error):
        return {}
    first, others = get_primary_failure(fatal_error)
    failures: dict[CodeType, tuple[BaseException, int]] = {}
    visited: set[tuple[int, bool]] = set()
    for error in iter_failures(fatal_error):
        for code in _iter_code_objects(error, visited):
            failures.setdefault(code, (error, others))
    for code in _iter_code_objects(fatal_error, visited):
        failures.setdefault(code, (first, others))
    return failures


def _iter_leaves(root: BaseException) -> Iterator[BaseException]:
    pending, visited = [root], {id(root)}
    while pending:
        error = pending.pop()
        if isinstance(error, BaseExceptionGroup):
            for member in reversed(error.exceptions):
                if id(member) not in visited:  # one exception may be in several groups
                    visited.add(id(member))
                    pending.append(member)
        else:
            yield error


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
    # The interpreter prints any other object and exits with 1.
    return code is None or (isinstance(code, int) and code == 0)


def _iter_code_objects(root: BaseException, visited: set[tuple[int, bool]]) -> Iterator[CodeType]:
    """Yield the code that an exception and all linked exceptions came through, except the ``visited`` ones."""
    pending = [(root, False)]
    while pending:
        error, is_replaced = pending.pop()
        if (id(error), is_replaced) in visited:
            continue
        visited.add((id(error), is_replaced))
        if is_replaced or not is_stop(error):
            step = error.__traceback__
            while step is not None:
                yield step.tb_frame.f_code
                step = step.tb_next
        replaces = not isinstance(error, BaseExceptionGroup)
        if isinstance(error, BaseExceptionGroup):
            pending += [(member, False) for member in error.exceptions]
        if error.__cause__ is not None:
            pending.append((error.__cause__, replaces))
        if error.__context__ is not None:
            pending.append((error.__context__, replaces and not error.__suppress_context__))
