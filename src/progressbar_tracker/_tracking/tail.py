"""The output tails of this process: which secrets it knows, and which patterns the user has added."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from progressbar_tracker import _config
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._log import WARNING, log
from progressbar_tracker._models import DEFAULT_TAIL_LINES
from progressbar_tracker._output_tail import OutputTail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker._masking import SecretMasker


def make_masker(environ: Mapping[str, str]) -> SecretMasker:
    """Return a masker of the secrets in ``environ`` and the matches of ``PROGRESSBAR_MASK``.

    Raises:
        ConfigError: ``PROGRESSBAR_MASK`` is not a regular expression.
    """
    from progressbar_tracker._masking import SecretMasker, compile_patterns, find_secret_values

    pattern = environ.get(_config.MASK_VARIABLE, "")
    try:
        patterns = compile_patterns([pattern] if pattern else [])
    except ValueError as error:
        raise ConfigError(f"{_config.MASK_VARIABLE} is invalid: {error}") from None
    return SecretMasker(patterns, find_secret_values(environ))


def make_tail(environ: Mapping[str, str], max_lines: int = DEFAULT_TAIL_LINES) -> OutputTail:
    """Return an empty tail that masks what ``make_masker()`` does.

    Raises:
        ConfigError: ``PROGRESSBAR_MASK`` is not a regular expression.
        ValueError: The number of lines is not from 1 to 1000.
    """
    known = dict(environ)
    if known.get(_config.MASK_VARIABLE):
        make_masker(known)  # an invalid pattern is reported now, and not at the first reading
    return OutputTail(max_lines=max_lines, make_masker=lambda: make_masker(known))


def find_mask_error(environ: Mapping[str, str]) -> str | None:
    """Return why ``PROGRESSBAR_MASK`` cannot be used, or ``None``."""
    if environ.get(_config.MASK_VARIABLE):
        try:
            make_masker(environ)
        except ConfigError as error:
            return str(error)
    return None


def try_make_tail(
    what: str, environ: Mapping[str, str] | None = None, max_lines: int = DEFAULT_TAIL_LINES
) -> OutputTail | None:
    """Return a tail, or ``None`` after a warning about an invalid pattern: no text is sent unmasked.

    Args:
        what: The lines that are not sent in this case.
        environ: The environment; by default that of the process.
        max_lines: Lines to keep, from 1 to 1000.
    """
    try:
        return make_tail(os.environ if environ is None else environ, max_lines)
    except ConfigError as error:
        log(WARNING, "%s are not sent: %s", what, error)
        return None
