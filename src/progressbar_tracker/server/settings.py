"""The settings of a server: read from arguments, then from the environment."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack, get_args

import msgspec

from progressbar_tracker._config import read_text, resolve_user_folder
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._text import parse_duration

from .budget import MAX_UNREAD_MEBIBYTES
from .hosts import AllowedHosts
from .logs import LOG_FORMATS, LOG_LEVELS, LogFormat, LogLevel
from .models import EndStatus
from .proxies import TrustedProxies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DAY_SECONDS: Final = 86400.0
PORT_VARIABLE: Final = "PROGRESSBAR_PORT"

MAX_DRAIN_SECONDS: Final = 3600.0
"""The most seconds between a signal and the shutdown."""


class RetentionPolicy(msgspec.Struct, frozen=True):
    """How long something is kept, by end status; in seconds, ``math.inf`` without an end.

    Attributes:
        default: For statuses that ``by_status`` does not name.
        by_status: Seconds by status.
    """

    default: float = math.inf
    by_status: dict[str, float] = {}

    def seconds_for(self, status: str) -> float:
        """Return how long something with this end status is kept."""
        return self.by_status.get(status, self.default)


def parse_period(name: str, text: str, *, default_unit: str = "") -> float:
    """Return a period in seconds.

    >>> parse_period("PROGRESSBAR_GIVE_UP", "90d"), parse_period("PROGRESSBAR_STALL_AFTER", "90", default_unit="s")
    (7776000.0, 90.0)

    Args:
        name: The variable, for error messages.
        text: The period; ``forever`` has no end.
        default_unit: The unit of a number without one; by default such a number is an error.

    Raises:
        ConfigError: The text is not a period; the message begins with ``name``.
    """
    if text == "forever":
        return math.inf
    try:
        return parse_duration(text, default_unit=default_unit)
    except ValueError:
        raise ConfigError(f"{name} must be a period such as 90s, 1h30m, 30d or forever, not {text!r}") from None


def parse_retention(name: str, text: str, default: float) -> RetentionPolicy:
    """Return periods by end status.

    >>> parse_retention("PROGRESSBAR_HISTORY", "90d,failed=1y", math.inf)
    RetentionPolicy(default=7776000.0, by_status={'failed': 31536000.0})

    Args:
        name: The variable, for error messages.
        text: Periods, separated by commas. One of them may have no status: it is the default.
        default: The default if the text has none.

    Raises:
        ConfigError: An entry is not valid.
    """
    by_status = dict[str, float]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        status, equals, rest = part.rpartition("=")
        if not equals:
            default = parse_period(name, rest)
        elif status in get_args(EndStatus):
            by_status[status] = parse_period(name, rest)
        else:
            raise ConfigError(f"{name} knows {', '.join(get_args(EndStatus))}, not {status!r}")
    return RetentionPolicy(default, by_status)


class SettingsOverrides(TypedDict, total=False):
    """Settings from arguments; ``None`` means that the argument is absent."""

    host: str | None
    port: int | None
    database: Path | str | None
    base_path: str | None
    public_url: str | None
    admin_username: str | None
    admin_password: str | None
    admin_key: str | None
    local_key: bool | None
    max_items: int | None
    max_requests: int | None
    max_unread: int | None
    public_read: bool | None
    trusted_proxies: str | None
    allowed_hosts: str | None
    keep: str | None
    history: str | None
    give_up: str | None
    stall_after: str | None
    stuck: bool | None
    credential_age: str | None
    drain: str | None
    metrics_items: int | None
    log_format: str | None
    log_level: str | None
    access_log: bool | None
    channels: Path | str | None
    push_origins: str | None
    monitor_url: str | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a server.

    Attributes:
        host: The address to listen on.
        port: The port; 0 takes a free one.
        database: The SQLite file, created if it does not exist; or the ``postgresql://`` URL of a database, which
            several servers may share.
        base_path: The path prefix of all URLs, such as ``"/p"``; ``""`` for none.
        public_url: The public base URL, used in links; ``""`` if it is not known.
        admin_username: The administrator's name for the dashboard, together with ``admin_password``.
        admin_password: See ``admin_username``. Never shown.
        admin_key: An admin key to import, 24 characters or more. Never shown.
        local_key: Write a usable write key to the user's config file.
        max_items: The most items of one key.
        max_requests: The most requests a second of one key; 0 for no limit.
        max_unread: The most mebibytes of unread responses of all clients; one client may have a quarter.
        trusted_proxies: The proxies whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are trusted; see
            :class:`~.proxies.TrustedProxies`.
        allowed_hosts: The names under which the server answers; see :class:`~.hosts.AllowedHosts`.
        public_read: Allow reading without a key and without signing in.
        keep: How long an ended item without its own ``ttl`` stays on the board.
        history: How long ended runs stay in the history.
        give_up: Seconds without a sign of life after which a running item is stopped and leaves the board.
        stall_after: Seconds without a sign of life after which an item without a ``heartbeat_timeout`` is stalled.
        stuck: Detect items that are alive without progress.
        metrics_items: The number of items with a progress metric: the first of the list.
        log_format: The format of log lines.
        log_level: The lowest level of log lines; ``None`` for the default of the format.
        access_log: Log each request.
        channels: The TOML file with notification channels; see :mod:`~.notifications.channels`.
        push_origins: The origins of push services that browsers may subscribe at although they are in a private network
            or use plain HTTP or another port.
        monitor_url: The URL of an external monitor, requested each minute while the server works. Never shown.
        credential_age: Seconds for which keys and sessions are accepted while PostgreSQL does not answer.
        drain: Seconds between SIGTERM and the shutdown, in which requests are served and ``/readyz`` is 503.
        session_seconds: How long a browser stays signed in.
        sign_in_seconds: How long a one-time sign-in link is valid.
    """

    database: Path | str
    host: str = "127.0.0.1"
    port: int = 8989
    base_path: str = ""
    public_url: str = ""
    admin_username: str | None = None
    admin_password: str | None = None
    admin_key: str | None = None
    local_key: bool = True
    max_items: int = 10_000
    max_requests: int = 0
    max_unread: int = MAX_UNREAD_MEBIBYTES
    trusted_proxies: str = ""
    allowed_hosts: str = ""
    public_read: bool = False
    keep: RetentionPolicy = RetentionPolicy()
    history: RetentionPolicy = RetentionPolicy(90 * DAY_SECONDS)
    give_up: float = math.inf
    stall_after: float = math.inf
    stuck: bool = True
    credential_age: float = 60.0
    drain: float = 0.0
    metrics_items: int = 0
    log_format: LogFormat = "text"
    log_level: LogLevel | None = None
    access_log: bool = False
    channels: Path | None = None
    push_origins: str = ""
    monitor_url: str | None = None
    session_seconds: float = 7 * 86400.0
    sign_in_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"PROGRESSBAR_PORT must be from 0 to 65535, not {self.port}")
        for name, minimum in (("max_items", 1), ("max_requests", 0), ("max_unread", 8), ("metrics_items", 0)):
            if (number := getattr(self, name)) < minimum:
                raise ConfigError(f"PROGRESSBAR_{name.upper()} must be {minimum} or more, not {number}")
        for name, minimum in (("credential_age", 5), ("give_up", 60), ("stall_after", 1)):
            if (seconds := getattr(self, name)) < minimum:
                raise ConfigError(f"PROGRESSBAR_{name.upper()} must be {minimum}s or more, not {seconds:g}s")
        if not 0 <= self.drain <= MAX_DRAIN_SECONDS:
            raise ConfigError(f"PROGRESSBAR_DRAIN must be from 0s to {MAX_DRAIN_SECONDS:g}s, not {self.drain:g}s")
        if self.public_url and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", self.public_url):
            redacted = strip_password(self.public_url)
            raise ConfigError(f"PROGRESSBAR_PUBLIC_URL must be a URL such as https://host/p, not {redacted!r}")
        if self.monitor_url is not None and not re.fullmatch(r"https?://[^\s/?#]+(/[^\s#]*)?", self.monitor_url):
            raise ConfigError("PROGRESSBAR_MONITOR_URL must be a URL such as https://host/ping")  # it is a secret
        base = self.base_path
        if base and (
            not base.startswith("/") or base.endswith("/") or any(c in base for c in "?#% \\") or "//" in base
        ):
            raise ConfigError(f"PROGRESSBAR_BASE_PATH must be a path such as /p, not {base!r}")
        if self.admin_key is not None and len(self.admin_key) < 24:
            raise ConfigError("PROGRESSBAR_ADMIN_KEY must have 24 characters or more")
        if self.admin_key is not None and not (self.admin_key.isascii() and self.admin_key.isprintable()):
            raise ConfigError("PROGRESSBAR_ADMIN_KEY must be printable ASCII: it travels in a header")
        if (self.admin_username is None) != (self.admin_password is None):
            missing = "ADMIN_PASSWORD" if self.admin_password is None else "ADMIN_USERNAME"
            raise ConfigError(f"ADMIN_USERNAME and ADMIN_PASSWORD go together: {missing} is not set")
        for origin in self.list_push_origins():
            if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d{1,5})?", origin):
                raise ConfigError(f"PROGRESSBAR_PUSH_ORIGINS has origins such as https://push.lan:8443, not {origin!r}")
        TrustedProxies(self.trusted_proxies)
        AllowedHosts(self.allowed_hosts, listens_on=self.host, public_url=self.public_url)

    def __repr__(self) -> str:
        return f"Settings(host={self.host!r}, port={self.port}, database={self.redacted_database!r})"

    def list_push_origins(self) -> frozenset[str]:
        """Return the origins of ``push_origins``."""
        return frozenset(origin.lower() for origin in self.push_origins.replace(",", " ").split())

    @property
    def redacted_database(self) -> str:
        """The database, without a password."""
        return str(self.database) if isinstance(self.database, Path) else strip_password(self.database)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **overrides: Unpack[SettingsOverrides]) -> Settings:
        """Return the settings of an environment; arguments override variables.

        Raises:
            ConfigError: A value is not valid; the message names the variable.
        """
        arguments = {name: value for name, value in overrides.items() if value is not None}
        environ = _drop_overridden(environ, arguments)
        variables: dict[str, object] = {
            "host": environ.get("PROGRESSBAR_HOST") or None,
            "port": None if is_service_address(environ.get(PORT_VARIABLE, "")) else _read_int(environ, PORT_VARIABLE),
            "base_path": environ.get("PROGRESSBAR_BASE_PATH") or None,
            "public_url": environ.get("PROGRESSBAR_PUBLIC_URL") or None,
            "admin_username": environ.get("ADMIN_USERNAME") or None,
            "admin_password": _read_secret(environ, "ADMIN_PASSWORD"),
            "admin_key": _read_secret(environ, "PROGRESSBAR_ADMIN_KEY"),
            "local_key": _read_bool(environ, "PROGRESSBAR_LOCAL_KEY"),
            "public_read": _read_bool(environ, "PROGRESSBAR_PUBLIC_READ"),
            "max_items": _read_int(environ, "PROGRESSBAR_MAX_ITEMS"),
            "max_requests": _read_int(environ, "PROGRESSBAR_MAX_REQUESTS"),
            "max_unread": _read_int(environ, "PROGRESSBAR_MAX_UNREAD"),
            "trusted_proxies": environ.get("PROGRESSBAR_TRUSTED_PROXIES") or None,
            "allowed_hosts": environ.get("PROGRESSBAR_ALLOWED_HOSTS") or None,
            "keep": environ.get("PROGRESSBAR_KEEP") or None,
            "history": environ.get("PROGRESSBAR_HISTORY") or None,
            "credential_age": environ.get("PROGRESSBAR_CREDENTIAL_AGE") or None,
            "drain": environ.get("PROGRESSBAR_DRAIN") or None,
            "give_up": environ.get("PROGRESSBAR_GIVE_UP") or None,
            "stall_after": environ.get("PROGRESSBAR_STALL_AFTER") or None,
            "stuck": _read_bool(environ, "PROGRESSBAR_STUCK"),
            "metrics_items": _read_int(environ, "PROGRESSBAR_METRICS_ITEMS"),
            "log_format": environ.get("PROGRESSBAR_LOG_FORMAT") or None,
            "log_level": environ.get("PROGRESSBAR_LOG_LEVEL") or None,
            "access_log": _read_bool(environ, "PROGRESSBAR_ACCESS_LOG"),
            "channels": environ.get("PROGRESSBAR_CHANNELS") or None,
            "push_origins": environ.get("PROGRESSBAR_PUSH_ORIGINS") or None,
            "monitor_url": _read_secret(environ, "PROGRESSBAR_MONITOR_URL"),
        }
        merged = {name: value for name, value in variables.items() if value is not None} | arguments
        merged["database"] = resolve_database(environ, merged.get("database"))
        # Users write "/p/" and "/", too.
        merged["base_path"] = str(merged.get("base_path", "")).rstrip("/")
        merged["public_url"] = str(merged.get("public_url", "")).rstrip("/")
        for name, default in (("keep", math.inf), ("history", 90 * DAY_SECONDS)):
            if name in merged:
                merged[name] = parse_retention(f"PROGRESSBAR_{name.upper()}", str(merged[name]), default)
        if "channels" in merged:
            merged["channels"] = Path(str(merged["channels"]))
        for name in ("give_up", "credential_age", "stall_after", "drain"):
            if name in merged:
                default_unit = "s" if name in ("stall_after", "drain") else ""
                merged[name] = parse_period(f"PROGRESSBAR_{name.upper()}", str(merged[name]), default_unit=default_unit)
        for name, choices in (("log_format", LOG_FORMATS), ("log_level", LOG_LEVELS)):
            if name in merged:
                merged[name] = _check_choice(f"PROGRESSBAR_{name.upper()}", str(merged[name]), choices)
        return cls(**merged)  # type: ignore[arg-type]  # each value was parsed above


def is_service_address(text: str) -> bool:
    """Return whether ``PROGRESSBAR_PORT`` was set by Kubernetes, for a service that is called ``progressbar``.

    >>> is_service_address("tcp://10.0.0.7:8989"), is_service_address("8989")
    (True, False)
    """
    return re.fullmatch(r"(tcp|udp|sctp)://\S+", text.strip()) is not None


def _drop_overridden(environ: Mapping[str, str], overrides: Iterable[str]) -> dict[str, str]:
    """Return an environment without the variables that arguments override: those are not validated."""
    names = {prefix + name.upper() for name in overrides for prefix in ("PROGRESSBAR_", "")}
    return {name: text for name, text in environ.items() if name.removesuffix("_FILE") not in names}


def resolve_database(environ: Mapping[str, str], database: object = None) -> Path | str:
    """Return the database of an argument, of the environment, or the default file.

    ``PROGRESSBAR_DATABASE_FILE`` names a file with the URL, which may contain a password.

    Raises:
        ConfigError: It is the URL of an unsupported database.
    """
    text = str(database or _read_secret(environ, "PROGRESSBAR_DATABASE") or "")
    return _parse_database(text) if text else default_database()


def default_database() -> Path:
    """Return the database file in the system's folder for user data."""
    import platformdirs

    folder = resolve_user_folder(lambda: platformdirs.user_data_path("progressbar-tracker", appauthor=False))
    if folder is None:
        raise ConfigError("there is no home folder for the database: set HOME, PROGRESSBAR_DATABASE or --database")
    return folder / "progress.db"


_LIBPQ_STRING: Final = re.compile(r"(?:^|\s)(?:host|hostaddr|port|dbname|user|password|service)\s*=")


def _parse_database(text: str) -> Path | str:
    scheme, colon, _ = text.partition("://")
    if not colon:
        if _LIBPQ_STRING.search(text) and not Path(text).exists():
            raise ConfigError(
                "PROGRESSBAR_DATABASE must be a file or a postgresql:// URL, and no libpq string of names and values: "
                "postgresql://USER@HOST1,HOST2/NAME"
            )
        return Path(text)
    if scheme not in {"postgresql", "postgres"}:
        raise ConfigError(f"PROGRESSBAR_DATABASE must be a file or a postgresql:// URL, not a {scheme}:// one")
    return text


def strip_password(url: str) -> str:
    """Return a database's URL without its password.

    >>> strip_password("postgresql://me:secret@host:5432/bars?sslmode=require")
    'postgresql://me@host:5432/bars'
    """
    # Without a URL parser: the text may not be a valid URL.
    scheme, colon, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    return f"{scheme}{colon}{user.partition(':')[0]}{at}{host}{slash}{path}"


def _read_int(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{name} must be a whole number, not {text!r}") from None


def _read_bool(environ: Mapping[str, str], name: str) -> bool | None:
    text = environ.get(name, "").strip().lower()
    if not text:
        return None
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ConfigError(f"{name} must be 1 or 0, not {text!r}")


def _check_choice(name: str, text: str, choices: Sequence[str]) -> str:
    if text.lower() not in choices:
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, not {text!r}")
    return text.lower()


def _read_secret(environ: Mapping[str, str], name: str) -> str | None:
    path = environ.get(f"{name}_FILE")
    if not path:
        return environ.get(name) or None
    if environ.get(name):
        raise ConfigError(f"{name} and {name}_FILE are both set: keep one")
    try:
        text = read_text(Path(path)).strip()
    except ConfigError as error:
        raise ConfigError(f"{name}_FILE names {path}, which cannot be read: {error}") from error
    if not text:
        raise ConfigError(f"{name}_FILE names {path}, which is empty")
    return text
