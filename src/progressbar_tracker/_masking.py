"""Masks secrets in lines of output by their form: keys, passwords, tokens and credentials in URLs.

It is a help, not a guarantee: a secret without a name and without a known form is not found. The time of every pattern
grows with the length of the line and no faster, because the output of a program is hostile text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MASK_TEXT: Final = "***"

MIN_LITERAL_LENGTH: Final = 6
"""Characters of the shortest value that is masked wherever it stands: a shorter one would mask ordinary words."""

_VALUE_PATTERN: Final = r"""(?:"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|\S+)"""

_NAME_PATTERN: Final = (
    r"(?:passw(?:or)?d|passphrase|passcode|pwd|secret(?!ar)|credential|(?:api|access|account|private|signing)[_-]?key"
    r"|signature|token(?=[\"'\s:=]))"
)

_SECRET_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # The whole value of a header that carries a credential.
        r"(?i)(?P<kept>\b(?:authorization|x-api-key|x-auth-token|cookie)[\"']?\s{0,8}[:=]\s{0,8})(?=\S).+",
        # name=value, name: value, "name": "value" and name => value.
        rf"(?i)(?P<kept>{_NAME_PATTERN}[\w-]{{0,40}}[\"']?\s{{0,8}}(?:[:=]{{1,2}}>?)\s{{0,8}}){_VALUE_PATTERN}",
        # --name value.
        rf"(?i)(?P<kept>(?<![\w-])--[\w-]{{0,40}}?(?:passw(?:or)?d|passphrase|secret|token|api-?key)[\w-]{{0,20}}\s{{1,8}}){_VALUE_PATTERN}",
        r"(?i)(?P<kept>\b(?:bearer|basic)\s{1,8})[\w.~+/=-]{6,}",
        # scheme://user:password@host; a password may contain an @.
        r"(?P<kept>://)[^\s/]{1,512}@",
        # Keys and sign-in links of this project.
        r"pbt_[rwa]_[\w-]*",
        r"(?P<kept>/(?:auth|ping|s)/)[\w-]{16,}",
        # GitHub, GitLab, Slack, Stripe, OpenAI, Hugging Face, npm, PyPI, AWS, Google, Telegram; JSON Web Tokens.
        r"\bgh[a-z]_\w{10,}|\bgithub_pat_\w{10,}|\bgl[a-z]{2,4}-[\w-]{10,}|\bxox[a-z]-[\w-]{6,}|\b[srp]k[_-][\w-]{10,}",
        r"\bhf_\w{10,}|\bnpm_\w{10,}|\bpypi-[\w-]{10,}|\b(?:AKIA|ASIA)[A-Z0-9]{8,}|\bAIza[\w-]{16,}|\bya29\.[\w.-]{10,}",
        r"\b\d{6,12}:[\w-]{30,}|(?<![\w-])eyJ[\w.-]{12,}|(?P<kept>hooks\.slack\.com/)\S+",
    )
)

_KEY_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY")
_SECRET_VARIABLE: Final = re.compile(
    r"(?i)(?:passw(?:or)?d|passphrase|secret|token(?!iz)|credential|(?:api|access|private)_?key)(?!.*_(?:file|path|dir)$)"
)


def compile_patterns(texts: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    """Compile the patterns of a user.

    Raises:
        ValueError: One is not a regular expression.
    """
    patterns = []
    for text in texts:
        try:
            patterns.append(re.compile(text))
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return tuple(patterns)


def find_secret_values(environ: Mapping[str, str]) -> list[str]:
    """Return the values of the environment variables whose names say that they are secret."""
    return [value for name, value in environ.items() if _SECRET_VARIABLE.search(name)]


class SecretMasker:
    """Masks the lines of one stream, in order.

    Args:
        patterns: Further patterns; each match is masked as a whole.
        values: Texts to mask wherever they stand; shorter ones than 6 characters are ignored.

    Example:
        >>> masker = SecretMasker()
        >>> masker.mask("login with password=hunter2 at https://ci:hunter2@host/")
        'login with password=*** at https://***@host/'
    """

    def __init__(self, patterns: Iterable[re.Pattern[str]] = (), values: Iterable[str] = ()) -> None:
        self._patterns = tuple(patterns)
        lines = {line.strip() for value in values for line in value.splitlines()}
        literals = sorted((line for line in lines if len(line) >= MIN_LITERAL_LENGTH), key=len, reverse=True)
        self._literals = re.compile("|".join(map(re.escape, literals))) if literals else None
        self._is_in_key = False

    def mask(self, line: str) -> str:
        """Return a line without control characters, with its secrets masked."""
        if self._is_in_key:
            self._is_in_key = _KEY_END.search(line) is None
            return MASK_TEXT
        begin = _KEY_BEGIN.search(line)
        if begin is not None:
            self._is_in_key = _KEY_END.search(line, begin.end()) is None
            line = line[: begin.start()] + MASK_TEXT
        if self._literals is not None:
            line = self._literals.sub(MASK_TEXT, line)
        for pattern in self._patterns:
            line = pattern.sub(MASK_TEXT, line)
        for pattern in _SECRET_PATTERNS:
            line = pattern.sub(_replace, line)
        return line

    def mask_text(self, text: str) -> str:
        r"""Return a text of its own, of any number of lines, with its secrets masked.

        >>> SecretMasker().mask_text("login failed\ntoken=abc123")
        'login failed\ntoken=***'
        """
        self._is_in_key = False
        masked = "\n".join(map(self.mask, text.split("\n")))
        self._is_in_key = False
        return masked

    def skip(self, text: str) -> None:
        """Note text that is lost: it may begin or end a private key of several lines."""
        if "PRIVATE KEY" in text:
            begin, end = text.rfind("-----BEGIN "), text.rfind("-----END ")
            self._is_in_key = begin > end


def _replace(match: re.Match[str]) -> str:
    kept = match.groupdict().get("kept") or ""
    return kept + MASK_TEXT + ("@" if kept == "://" else "")
