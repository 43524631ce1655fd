"""The line that ``run``, ``exec`` and ``pipe`` write to stderr if progress is not reported, with the next step."""

from __future__ import annotations

import os

from progressbar_tracker import _config, _runtime
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._sender.failure_log import add_hint
from progressbar_tracker._terminal.failure_lines import Reporter, identify_stderr

from .streams import PROGRAM_NAME, print_error

MISSING_SERVER_MESSAGE = (
    f"Progress is not reported, no server is configured: run '{PROGRAM_NAME} serve' here, or '{PROGRAM_NAME} login URL'"
)


def report_to(url: str | None) -> None:
    """Report to ``--url`` or to the configured server, and show failures of this process on stderr from now on.

    A failure of the configuration is shown at once. The job runs all the same.
    """
    lines = _runtime.get_failure_lines()
    lines.is_command = True
    if _check_configuration(url):
        lines.covers_server = True
    if url is not None:
        _runtime.override_url(url)


def describe_job() -> dict[str, str]:
    """Return the variables of a program whose item this process reports, along with the failures of the server."""
    return Reporter(identify_stderr(), covers_server=True).to_environ()


def describe_program(url: str | None) -> dict[str, str]:
    """Return the variables of a program that shows its failures on the stderr of this process.

    A failure of the configuration is shown here, so that the program does not show it again.
    """
    return Reporter(identify_stderr(), covers_server=_check_configuration(url)).to_environ()


def _check_configuration(url: str | None) -> bool:
    """Print the line about a configuration that cannot be used. Return whether there is such a line."""
    if _config.is_disabled(os.environ):
        return False
    if url is None and Reporter.from_environ(os.environ).covers_server:
        return True  # the enclosing command
    text = _find_failure(url)
    if text is not None:
        print_error(text)
    return text is not None


def _find_failure(url: str | None) -> str | None:
    from progressbar_tracker._http.messages import check_key, parse_base_url

    if url is not None:
        try:
            parse_base_url(url, "--url")
        except ConfigError as error:
            return f"Progress is not reported: {error}"
    try:
        found = _config.discover(os.environ, url=url)
        if found is None:
            return MISSING_SERVER_MESSAGE
        try:
            parse_base_url(found.url)
            check_key(found.api_key)
        except ConfigError as error:
            raise _config.add_error_source(found, error) from error
    except ConfigError as error:
        return add_hint(f"Progress is not reported: {error}")
    return None
