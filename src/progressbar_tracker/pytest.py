"""A plugin for pytest: a test session is an item that counts its tests.

Load it with ``pytest -p progressbar_tracker.pytest``, or with ``addopts`` in the configuration of pytest. Settings of
the same configuration describe the item: ``progressbar_id``, ``progressbar_title``, ``progressbar_group`` and
``progressbar_notify``, a list of channels. On the command line, ``-o progressbar_id=nightly`` sets one.

The description has the number of failures and the last of them. The item ends by the exit status of pytest: it has
succeeded with 0, and failed otherwise. With pytest-xdist only the controller reports. The output does not change.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Final

import pytest

from ._log import WARNING, log
from ._tracking.tracker import track

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec

    from ._tracking.tracker import Tracker

    P = ParamSpec("P")

EXIT_TEXTS: Final = {
    pytest.ExitCode.INTERRUPTED: "interrupted",
    pytest.ExitCode.INTERNAL_ERROR: "internal error",
    pytest.ExitCode.USAGE_ERROR: "usage error",
    pytest.ExitCode.NO_TESTS_COLLECTED: "no tests were collected",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings."""
    parser.addini("progressbar_id", "id of the item of a test session", default=None)
    parser.addini("progressbar_title", "title of this item", default=None)
    parser.addini("progressbar_group", "group of this item", default=None)
    parser.addini("progressbar_notify", "channels that are notified of its end", type="args", default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Create the item, unless this process is a worker of pytest-xdist or only lists tests."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    title = config.getini("progressbar_title") or f"Tests of {config.rootpath.name}"
    try:
        bar = track(
            id=config.getini("progressbar_id") or None, title=title, group=config.getini("progressbar_group") or None,
            notify=config.getini("progressbar_notify") or None, unit="tests", display=False,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"a setting of progressbar_tracker is invalid: {error}") from error
    config.pluginmanager.register(_SessionReporter(bar), "progressbar_tracker.session")


class _SessionReporter:
    """Reports one session. No exception of its hooks reaches pytest."""

    def __init__(self, bar: Tracker[None]) -> None:
        self._bar = bar
        self._ended_tests = set[str]()
        self._failures = {"failed": 0, "error": 0}
        self._last_failure = ""
        # The session's item is not the parent of the items that the tests track: these stay as without the plugin.
        self._context = contextvars.copy_context()

    def pytest_sessionstart(self) -> None:
        self._call(self._bar.update, completed=0)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.items:  # none in the controller of pytest-xdist
            self._call(self._bar.update, total=len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._call(self._bar.update, total=len(ids))  # all workers collect the same tests

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._call(self._show_failure, "error", report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._call(self._show_failure, "failed" if report.when == "call" else "error", report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._ended_tests.add(nodeid)  # a plugin may run a test again
        self._call(self._bar.update, completed=len(self._ended_tests))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
        self._call(self._end, exitstatus, session.shouldfail or session.shouldstop)

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        error = excinfo.value
        self._call(self._bar.fail, str(error) if isinstance(error, pytest.Session.Interrupted) else error)

    def _show_failure(self, kind: str, test_name: str) -> None:
        self._failures[kind] += 1
        self._last_failure = test_name
        self._bar.update(description=f"{self._describe_failures()}, last: {test_name}")

    def _describe_failures(self) -> str:
        failed, errors = self._failures["failed"], self._failures["error"]
        parts = [f"{failed} failed"] if failed else []
        return ", ".join(parts + ([f"{errors} error{'s' * (errors > 1)}"] if errors else []))

    def _end(self, exit_status: int | pytest.ExitCode, reason: bool | str) -> None:
        if exit_status == pytest.ExitCode.OK:
            self._bar.close()
        elif exit_status == pytest.ExitCode.TESTS_FAILED:
            self._bar.fail(self._describe_failures() or str(reason or "failed"))
        else:
            known = EXIT_TEXTS.get(pytest.ExitCode(exit_status)) if exit_status in set(pytest.ExitCode) else None
            self._bar.fail(str(reason or known or f"exit status {exit_status}"))

    def _call(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            self._context.run(function, *args, **kwargs)
        except Exception:  # noqa: BLE001 - tracking never hurts the tests
            log(WARNING, "The tests continue, but their progress is not reported", exc_info=True)
