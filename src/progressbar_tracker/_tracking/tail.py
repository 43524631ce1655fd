"""The output tails of this process: which secrets it knows, and which patterns the user has added."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from progressbar_tracker import _config
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._log import WARNING, log
from progressbar_tracker._masking import compile_patterns, find_secret_values
from progressbar_tracker._models import DEFAULT_TAIL_LINES
from progressbar_tracker._output_tail import OutputTail

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_tail(environ: Mapping[str, str], max_lines: int = DEFAULT_TAIL_LINES) -> OutputTail:
    """Return an empty tail that masks the secrets in ``environ`` and the matches of ``PROGRESSBAR_MASK``.

    Raises:
        ConfigError: ``PROGRESSBAR_MASK`` is not a regular expression.
        ValueError: The number of lines is not from 1 to 1000.
    """
    pattern = environ.get(_config.MASK_VARIABLE, "")
    try:
        patterns = compile_patterns([pattern] if pattern else [])
    except ValueError as error:
        raise ConfigError(f"{_config.MASK_VARIABLE} is invalid: {error}") from None
    return OutputTail(max_lines=max_lines, patterns=patterns, values=find_secret_values(environ))


def make_log_tail() -> OutputTail | None:
    """Return the tail for ``log()``, or ``None`` after a warning about an invalid pattern: no text is sent unmasked."""
    try:
        return make_tail(os.environ)
    except ConfigError as error:
        log(WARNING, "The lines of log() are not sent: %s", error)
        return None
