"""The channels to which the operator has items told, read from a file of his: TOML, with a table for each.

Addresses and secrets stay in that file, or in files that it names. They are never in the database, on a page or in a
log: what is told of a channel is its name, its kind and, of a webhook, the host. All servers of one database are given
the same file. A change of it takes effect at once; one that cannot be read is told in the log, and changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import logging
import re
import tomllib
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import GROUP_LENGTH, NOTIFY_LENGTH, format_value, has_control

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from progressbar_tracker.server.models import Item

logger = logging.getLogger("progressbar_tracker.server.notifications.channels")

ChannelKind: TypeAlias = Literal["webhook", "apprise"]

EVENT_NAMES: Final = ("succeeded", "failed", "stopped", "stalled", "late")
"""What can happen to an item, beside coming to a percentage."""

DEFAULT_EVENTS: Final = frozenset({"succeeded", "failed", "stalled", "late"})
"""What a channel is told of that does not say."""

MAX_CHANNELS: Final = 100
"""The most channels."""

MAX_FILE_BYTES: Final = 1 << 20
"""The most bytes of a file."""

_NAME_PATTERN: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NOTIFY_LENGTH - 1}}}")
_PERCENT_PATTERN: Final = re.compile(r"([1-9]\d?)%")
_CHANNEL_FIELDS: Final = ("url", "url_file", "kind", "secret", "secret_file", "on", "groups", "all", "allow_private")


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """Where messages go, and which.

    Attributes:
        kind: How they are sent.
        url: Where to; a secret.
        secret: What a webhook is signed with, the bytes.
        on: The events it is told of.
        percents: The percentages it is told of.
        groups: The groups whose items it is told of, whether they name it or not.
        all: It is told of all items.
        allow_private: A webhook may lead to this machine, or to another that only its network knows.
    """

    name: str
    kind: ChannelKind
    url: str
    secret: bytes | None = None
    on: frozenset[str] = DEFAULT_EVENTS
    percents: tuple[int, ...] = ()
    groups: frozenset[str] = frozenset()
    all: bool = False
    allow_private: bool = False

    def __repr__(self) -> str:
        return f"Channel(name={self.name!r}, kind={self.kind!r}, place={self.destination!r})"

    @property
    def destination(self) -> str:
        """Where it leads, as far as that is no secret: a webhook's host, or the kind of service.

        What stands for a host in an address of apprise is a token for many services.
        """
        if self.kind == "apprise":
            return self.url.partition("://")[0].lower()
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def events(self) -> list[str]:
        """What it is told of, in words."""
        return [event for event in EVENT_NAMES if event in self.on] + [f"{percent}%" for percent in self.percents]

    def accepts(self, item: Item) -> bool:
        """Say whether it is told of an item."""
        return self.all or self.name in item.notify or item.group in self.groups


class Channels:
    """All channels.

    Args:
        path: The file; ``None`` for none.

    Raises:
        ConfigError: It cannot be read, in one sentence that names what is wrong with it and never a secret.

    Attributes:
        has_channels: There are some.
        has_wildcard: Some are told of items that do not name them.
        percents: All percentages that some are told of, in rising order.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file_state: object = None
        self._secret_files: tuple[Path, ...] = ()
        self._last_error = ""
        self._replace_all(())
        if path is not None:
            self._load(path)

    def __repr__(self) -> str:
        return f"Channels({sorted(self._channels)})"

    def __len__(self) -> int:
        return len(self._channels)

    def get(self, name: str) -> Channel | None:
        """Return a channel by its name."""
        return self._channels.get(name)

    def all(self) -> list[Channel]:
        """Return all channels, by their names."""
        return sorted(self._channels.values(), key=lambda channel: channel.name)

    def refresh(self) -> bool:
        """Look whether a file has changed, and take it over; say whether it was."""
        if self._path is None or _stat_files([self._path, *self._secret_files]) == self._file_state:
            return False
        try:
            self._load(self._path)
        except ConfigError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                logger.warning("the channels stay as they were: %s", error)
            self._file_state = None  # it may be another file that is lacking, so it is looked at again
            return False
        self._last_error = ""
        return True

    def _load(self, path: Path) -> None:
        seen = _stat_files([path])  # what is written while it is read will be another state
        channels, files = read_channels(path)
        self._secret_files = tuple(files)
        self._file_state = seen + _stat_files(self._secret_files)
        self._replace_all(channels)

    def _replace_all(self, channels: Iterable[Channel]) -> None:
        self._channels: dict[str, Channel] = {channel.name: channel for channel in channels}
        found = self._channels.values()
        self.has_channels = bool(found)
        self.has_wildcard = any(channel.all or channel.groups for channel in found)
        self.percents = tuple(sorted({percent for channel in found for percent in channel.percents}))


def _stat_files(files: Iterable[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what tells a file that was changed from the same one before."""
    found: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            about = path.stat()
            found.append((about.st_mtime_ns, about.st_size, about.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def read_channels(path: Path) -> tuple[list[Channel], list[Path]]:
    """Return the channels of a file, and the files that it names.

    Raises:
        ConfigError: It cannot be read, in one sentence.
    """
    text = _read_text(path, str(path))
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {_redact_error(error)}") from None
    tables = document.pop("channels", {})
    if document or not isinstance(tables, dict):
        wrong = next(iter(document), "channels")
        raise ConfigError(
            f"{path}{_line_suffix(text, wrong)}: there is {format_value(wrong)}, and not a table [channels.NAME]"
        )
    if len(tables) > MAX_CHANNELS:
        raise ConfigError(f"{path} has {len(tables)} channels; {MAX_CHANNELS} are the most")
    channels: list[Channel] = []
    files: list[Path] = []
    for name, table in tables.items():
        reader = _ChannelReader(path, text, name)
        channels.append(reader.read_channel(table))
        files += reader.files
    return channels, files


class _ChannelReader:
    """Reads the table of one channel."""

    def __init__(self, path: Path, text: str, name: str) -> None:
        self._path = path
        self._text = text
        self._name = name
        self.files: list[Path] = []

    def read_channel(self, table: object) -> Channel:
        name = self._name
        if not _NAME_PATTERN.fullmatch(name):
            raise ConfigError(
                f"{self._path}{_line_suffix(self._text, name)}: {format_value(name)} is no name of a channel: "
                f"letters, digits, '.', "
                f"'_' and '-', {NOTIFY_LENGTH} at most"
            )
        if not isinstance(table, dict):
            raise self._config_error("", f"must be a table [channels.{name}]")
        for field in table:
            if field not in _CHANNEL_FIELDS:
                raise self._config_error(
                    field, f"unknown field {format_value(field)}; there are {', '.join(_CHANNEL_FIELDS)}"
                )
        url = self._read_secret(table, "url")
        if url is None:
            raise self._config_error("", "url or url_file is missing")
        kind = self._read_kind(table, url)
        key = self._read_signing_key(table) if kind == "webhook" else None
        if kind == "apprise":
            for field in ("secret", "secret_file", "allow_private"):
                if field in table:
                    raise self._config_error(field, f"{field} is for webhooks only")
            if importlib.util.find_spec("apprise") is None:
                raise self._config_error("", "it takes apprise: pip install 'progressbar-tracker[notify]'")
        on, percents = self._read_events(table)
        return Channel(
            name=name, kind=kind, url=url, secret=key, on=on, percents=percents, groups=self._read_groups(table),
            all=self._read_flag(table, "all"), allow_private=self._read_flag(table, "allow_private"),
        )  # fmt: skip

    def _read_kind(self, table: Mapping[str, object], url: str) -> ChannelKind:
        scheme = url.partition("://")[0].lower()
        if scheme == url.lower() or has_control(url) or any(c.isspace() for c in url):
            raise self._config_error("url", "url is no address such as https://host/path or ntfy://topic")
        kind = table.get("kind", "webhook" if scheme in ("http", "https") else "apprise")
        if kind == "apprise":
            return "apprise"
        if kind != "webhook":
            raise self._config_error("kind", f"kind must be webhook or apprise, not {format_value(kind)}")
        try:
            parts = urlsplit(url)
            fit = scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fit = False
        if not fit:
            raise self._config_error("url", "the url of a webhook must be an http:// or https:// address with a host")
        return "webhook"

    def _read_signing_key(self, table: Mapping[str, object]) -> bytes | None:
        secret = self._read_secret(table, "secret")
        if secret is None:
            return None
        prefix, _, encoded = secret.rpartition("_")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if prefix != "whsec" or not 24 <= len(key) <= 64:
            raise self._config_error("secret", "secret must be whsec_ and 24 to 64 bytes in base64")
        return key

    def _read_events(self, table: Mapping[str, object]) -> tuple[frozenset[str], tuple[int, ...]]:
        if "on" not in table:
            return DEFAULT_EVENTS, ()
        on, percents = set[str](), set[int]()
        for event in self._read_texts(table, "on"):
            percent = _PERCENT_PATTERN.fullmatch(event)
            if percent is not None:
                percents.add(int(percent[1]))
            elif event in EVENT_NAMES:
                on.add(event)
            else:
                raise self._config_error(
                    "on", f"unknown event {format_value(event)}; there are {', '.join(EVENT_NAMES)}, and 1% to 99%"
                )
        return frozenset(on), tuple(sorted(percents))

    def _read_groups(self, table: Mapping[str, object]) -> frozenset[str]:
        groups = self._read_texts(table, "groups")
        if any(not 1 <= len(group) <= GROUP_LENGTH for group in groups):
            raise self._config_error("groups", f"groups must be names of 1 to {GROUP_LENGTH} characters")
        return frozenset(groups)

    def _read_texts(self, table: Mapping[str, object], field: str) -> list[str]:
        found = table.get(field, [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self._config_error(field, f"{field} must be a list of texts")
        return found

    def _read_flag(self, table: Mapping[str, object], field: str) -> bool:
        found = table.get(field, False)
        if not isinstance(found, bool):
            raise self._config_error(field, f"{field} must be true or false")
        return found

    def _read_secret(self, table: Mapping[str, object], field: str) -> str | None:
        """Return a text that is in the table, or in a file that the table names."""
        given, named = table.get(field), table.get(f"{field}_file")
        if given is not None and named is not None:
            raise self._config_error(field, f"{field} and {field}_file are both there: keep one")
        if given is not None:
            if not isinstance(given, str) or not given:
                raise self._config_error(field, f"{field} must be a text")
            return given
        if named is None:
            return None
        if not isinstance(named, str) or not named:
            raise self._config_error(f"{field}_file", f"{field}_file must be the name of a file")
        path = self._path.parent / named
        self.files.append(path)
        text = _read_text(
            path, f"{self._path}{_line_suffix(self._text, self._name, f'{field}_file')}: {field}_file {path}"
        ).strip()
        if not text:
            raise self._config_error(f"{field}_file", f"{field}_file {path} is empty")
        return text

    def _config_error(self, field: str, why: str) -> ConfigError:
        return ConfigError(f"{self._path}{_line_suffix(self._text, self._name, field)}: channels.{self._name}: {why}")


def _read_text(path: Path, label: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"{label} is too large")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{label} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{label} is not UTF-8") from None


def _line_suffix(text: str, name: str, field: str = "") -> str:
    """Return ``" line 5"``, where a field of a table is, or the table; nothing where that is not found."""
    within, found = False, 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().replace('"', "").replace("'", "")
        if words.startswith("["):
            within = words.strip("[] ").removeprefix("channels.") == name
            found = number if within else found
        elif (within and field and re.match(rf"{re.escape(field)}\s*=", words)) or (
            not found and re.match(rf"{re.escape(name)}\s*=", words)
        ):
            return f" line {number}"
    return f" line {found}" if found else ""


def _redact_error(error: tomllib.TOMLDecodeError) -> str:
    """Return what is wrong, and where, without what stands there: it may be a secret."""
    where = re.search(r"\(at (?:line \d+, column \d+|end of document)\)$", str(error))
    what = re.split(r"[:('\"]", str(error))[0].strip()
    return f"{what or 'it cannot be read'} {where[0] if where else ''}".strip()
