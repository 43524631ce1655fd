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
from progressbar_tracker._models import GROUP_LENGTH, NOTIFY_LENGTH, has_control, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from progressbar_tracker.server.models import Item

logger = logging.getLogger("progressbar_tracker.server.notifications.channels")

Kind: TypeAlias = Literal["webhook", "apprise"]

EVENTS: Final = ("succeeded", "failed", "stopped", "stalled", "late")
"""What can happen to an item, beside coming to a percentage."""

DEFAULT: Final = frozenset({"succeeded", "failed", "stalled", "late"})
"""What a channel is told of that does not say."""

MOST: Final = 100
"""The most channels."""

SIZE: Final = 1 << 20
"""The most bytes of a file."""

_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NOTIFY_LENGTH - 1}}}")
_PERCENT: Final = re.compile(r"([1-9]\d?)%")
_FIELDS: Final = ("url", "url_file", "kind", "secret", "secret_file", "on", "groups", "all", "allow_private")


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
    kind: Kind
    url: str
    secret: bytes | None = None
    on: frozenset[str] = DEFAULT
    percents: tuple[int, ...] = ()
    groups: frozenset[str] = frozenset()
    all: bool = False
    allow_private: bool = False

    def __repr__(self) -> str:
        return f"Channel(name={self.name!r}, kind={self.kind!r}, place={self.place!r})"

    @property
    def place(self) -> str:
        """Where it leads, as far as that is no secret: a webhook's host, or the kind of service.

        What stands for a host in an address of apprise is a token for many services.
        """
        if self.kind == "apprise":
            return self.url.partition("://")[0].lower()
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def events(self) -> list[str]:
        """What it is told of, in words."""
        return [event for event in EVENTS if event in self.on] + [f"{percent}%" for percent in self.percents]

    def hears_of(self, item: Item) -> bool:
        """Say whether it is told of an item."""
        return self.all or self.name in item.notify or item.group in self.groups


class Channels:
    """All channels.

    Args:
        path: The file; ``None`` for none.

    Raises:
        ConfigError: It cannot be read, in one sentence that names what is wrong with it and never a secret.

    Attributes:
        any: There are some.
        wide: Some are told of items that do not name them.
        percents: All percentages that some are told of, in rising order.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: object = None
        self._files: tuple[Path, ...] = ()
        self._trouble = ""
        self._put(())
        if path is not None:
            self._read(path)

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
        if self._path is None or _state([self._path, *self._files]) == self._seen:
            return False
        try:
            self._read(self._path)
        except ConfigError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                logger.warning("the channels stay as they were: %s", error)
            self._seen = None  # it may be another file that is lacking, so it is looked at again
            return False
        self._trouble = ""
        return True

    def _read(self, path: Path) -> None:
        seen = _state([path])  # what is written while it is read will be another state
        channels, files = read(path)
        self._files = tuple(files)
        self._seen = seen + _state(self._files)
        self._put(channels)

    def _put(self, channels: Iterable[Channel]) -> None:
        self._channels: dict[str, Channel] = {channel.name: channel for channel in channels}
        found = self._channels.values()
        self.any = bool(found)
        self.wide = any(channel.all or channel.groups for channel in found)
        self.percents = tuple(sorted({percent for channel in found for percent in channel.percents}))


def _state(files: Iterable[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what tells a file that was changed from the same one before."""
    found: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            about = path.stat()
            found.append((about.st_mtime_ns, about.st_size, about.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def read(path: Path) -> tuple[list[Channel], list[Path]]:
    """Return the channels of a file, and the files that it names.

    Raises:
        ConfigError: It cannot be read, in one sentence.
    """
    text = _text(path, str(path))
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {_without_text(error)}") from None
    tables = document.pop("channels", {})
    if document or not isinstance(tables, dict):
        wrong = next(iter(document), "channels")
        raise ConfigError(f"{path}{_line(text, wrong)}: there is {shown(wrong)}, and not a table [channels.NAME]")
    if len(tables) > MOST:
        raise ConfigError(f"{path} has {len(tables)} channels; {MOST} are the most")
    channels: list[Channel] = []
    files: list[Path] = []
    for name, table in tables.items():
        reader = _Reader(path, text, name)
        channels.append(reader.channel(table))
        files += reader.files
    return channels, files


class _Reader:
    """Reads the table of one channel."""

    def __init__(self, path: Path, text: str, name: str) -> None:
        self._path = path
        self._text = text
        self._name = name
        self.files: list[Path] = []

    def channel(self, table: object) -> Channel:
        name = self._name
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"{self._path}{_line(self._text, name)}: {shown(name)} is no name of a channel: letters, digits, '.', "
                f"'_' and '-', {NOTIFY_LENGTH} at most"
            )
        if not isinstance(table, dict):
            raise self._wrong("", f"must be a table [channels.{name}]")
        for field in table:
            if field not in _FIELDS:
                raise self._wrong(field, f"unknown field {shown(field)}; there are {', '.join(_FIELDS)}")
        url = self._secret(table, "url")
        if url is None:
            raise self._wrong("", "url or url_file is missing")
        kind = self._kind(table, url)
        key = self._key(table) if kind == "webhook" else None
        if kind == "apprise":
            for field in ("secret", "secret_file", "allow_private"):
                if field in table:
                    raise self._wrong(field, f"{field} is for webhooks only")
            if importlib.util.find_spec("apprise") is None:
                raise self._wrong("", "it takes apprise: pip install 'progressbar-tracker[notify]'")
        on, percents = self._events(table)
        return Channel(
            name=name, kind=kind, url=url, secret=key, on=on, percents=percents, groups=self._groups(table),
            all=self._flag(table, "all"), allow_private=self._flag(table, "allow_private"),
        )  # fmt: skip

    def _kind(self, table: Mapping[str, object], url: str) -> Kind:
        scheme = url.partition("://")[0].lower()
        if scheme == url.lower() or has_control(url) or any(c.isspace() for c in url):
            raise self._wrong("url", "url is no address such as https://host/path or ntfy://topic")
        kind = table.get("kind", "webhook" if scheme in ("http", "https") else "apprise")
        if kind == "apprise":
            return "apprise"
        if kind != "webhook":
            raise self._wrong("kind", f"kind must be webhook or apprise, not {shown(kind)}")
        try:
            parts = urlsplit(url)
            fit = scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            fit = False
        if not fit:
            raise self._wrong("url", "the url of a webhook must be an http:// or https:// address with a host")
        return "webhook"

    def _key(self, table: Mapping[str, object]) -> bytes | None:
        secret = self._secret(table, "secret")
        if secret is None:
            return None
        prefix, _, encoded = secret.rpartition("_")
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if prefix != "whsec" or not 24 <= len(key) <= 64:
            raise self._wrong("secret", "secret must be whsec_ and 24 to 64 bytes in base64")
        return key

    def _events(self, table: Mapping[str, object]) -> tuple[frozenset[str], tuple[int, ...]]:
        if "on" not in table:
            return DEFAULT, ()
        on, percents = set[str](), set[int]()
        for event in self._texts(table, "on"):
            percent = _PERCENT.fullmatch(event)
            if percent is not None:
                percents.add(int(percent[1]))
            elif event in EVENTS:
                on.add(event)
            else:
                raise self._wrong("on", f"unknown event {shown(event)}; there are {', '.join(EVENTS)}, and 1% to 99%")
        return frozenset(on), tuple(sorted(percents))

    def _groups(self, table: Mapping[str, object]) -> frozenset[str]:
        groups = self._texts(table, "groups")
        if any(not 1 <= len(group) <= GROUP_LENGTH for group in groups):
            raise self._wrong("groups", f"groups must be names of 1 to {GROUP_LENGTH} characters")
        return frozenset(groups)

    def _texts(self, table: Mapping[str, object], field: str) -> list[str]:
        found = table.get(field, [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise self._wrong(field, f"{field} must be a list of texts")
        return found

    def _flag(self, table: Mapping[str, object], field: str) -> bool:
        found = table.get(field, False)
        if not isinstance(found, bool):
            raise self._wrong(field, f"{field} must be true or false")
        return found

    def _secret(self, table: Mapping[str, object], field: str) -> str | None:
        """Return a text that is in the table, or in a file that the table names."""
        given, named = table.get(field), table.get(f"{field}_file")
        if given is not None and named is not None:
            raise self._wrong(field, f"{field} and {field}_file are both there: keep one")
        if given is not None:
            if not isinstance(given, str) or not given:
                raise self._wrong(field, f"{field} must be a text")
            return given
        if named is None:
            return None
        if not isinstance(named, str) or not named:
            raise self._wrong(f"{field}_file", f"{field}_file must be the name of a file")
        path = self._path.parent / named
        self.files.append(path)
        text = _text(path, f"{self._path}{_line(self._text, self._name, f'{field}_file')}: {field}_file {path}").strip()
        if not text:
            raise self._wrong(f"{field}_file", f"{field}_file {path} is empty")
        return text

    def _wrong(self, field: str, why: str) -> ConfigError:
        return ConfigError(f"{self._path}{_line(self._text, self._name, field)}: channels.{self._name}: {why}")


def _text(path: Path, called: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE + 1)
        if len(data) > SIZE:
            raise ConfigError(f"{called} is too large")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{called} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{called} is not UTF-8") from None


def _line(text: str, name: str, field: str = "") -> str:
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


def _without_text(error: tomllib.TOMLDecodeError) -> str:
    """Return what is wrong, and where, without what stands there: it may be a secret."""
    where = re.search(r"\(at (?:line \d+, column \d+|end of document)\)$", str(error))
    what = re.split(r"[:('\"]", str(error))[0].strip()
    return f"{what or 'it cannot be read'} {where[0] if where else ''}".strip()
