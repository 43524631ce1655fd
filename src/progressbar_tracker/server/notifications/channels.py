"""Notification channels, read from the operator's TOML file with one table per channel.

Addresses and secrets stay in that file or in files that it names, never in the database, on a page or in a log. Only
the name, the kind and the host of a webhook are shown. All servers of one database use the same file. A change
takes effect at once. An invalid file is logged and changes nothing.
"""

from __future__ import annotations

import base64
import binascii
import importlib.util
import logging
import re
import tomllib
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._models import MAX_GROUP_LENGTH, MAX_NOTIFY_LENGTH, format_value, has_control

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from progressbar_tracker.server.models import Item

logger = logging.getLogger("progressbar_tracker.server.notifications.channels")

ChannelKind: TypeAlias = Literal["webhook", "apprise", "ntfy", "slack", "discord", "telegram"]

_CHANNEL_KINDS: Final[dict[str, ChannelKind]] = {kind: kind for kind in get_args(ChannelKind)}

EVENT_NAMES: Final = ("succeeded", "failed", "stopped", "stalled", "stuck", "late", "slower", "missed")
"""Events of an item, in addition to percentages."""

DEFAULT_EVENTS: Final = frozenset({"succeeded", "failed", "stalled", "stuck", "late", "missed"})
"""Events of a channel without ``on``."""

END_EVENTS: Final = frozenset({"succeeded", "failed", "stopped"})

MAX_CHANNELS: Final = 100


class ChatKind(NamedTuple):
    """How a kind of channel keeps one message for each run, within the limits that its service documents.

    Attributes:
        url: The address of the API; ``""`` if each channel has its own.
        fields: Required fields.
        edit_seconds: The shortest time between two edits of a message, by default.
        edits_per_minute: The most requests of a channel, by default.
    """

    url: str
    fields: tuple[str, ...]
    edit_seconds: int
    edits_per_minute: int


CHAT_KINDS: Final[dict[str, ChatKind]] = {
    # ntfy.sh refills one request in 5 s, and permits 250 messages a day.
    "ntfy": ChatKind("", (), 300, 10),
    # chat.update is of tier 3: 50 requests a minute.
    "slack": ChatKind("https://slack.com/api", ("token", "to"), 10, 40),
    # A webhook has 5 requests in 2 s, and its room 30 messages a minute.
    "discord": ChatKind("", (), 10, 25),
    # A group has 20 messages a minute.
    "telegram": ChatKind("https://api.telegram.org", ("token", "to"), 15, 18),
}

MIN_EDIT_SECONDS: Final = 5
MAX_EDIT_SECONDS: Final = 86400
MAX_EDITS_PER_MINUTE: Final = 600
MAX_KEPT_RUNS: Final = 100
DEFAULT_KEPT_RUNS: Final = 20
"""The most running items whose messages a channel edits, and the default."""

MAX_FILE_BYTES: Final = 1 << 20
"""Of the channel file, and of each file that it names."""

_NAME_PATTERN: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NOTIFY_LENGTH - 1}}}")
_PERCENT_PATTERN: Final = re.compile(r"([1-9]\d?)%")
_CHANNEL_FIELDS: Final = (
    "url",
    "url_file",
    "kind",
    "secret",
    "secret_file",
    "on",
    "groups",
    "all",
    "allow_private",
    "tail",
    "token",
    "token_file",
    "to",
    "edit_seconds",
    "edits_per_minute",
    "max_runs",
)
_CHAT_FIELDS: Final = ("token", "token_file", "to", "edit_seconds", "edits_per_minute", "max_runs")
_TOKEN_PATTERN: Final = re.compile(r"[!-~]{1,500}")
_PLACE_PATTERN: Final = re.compile(r"[\w#@.:+-]{1,200}")


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A destination of messages, and the events that it subscribes to.

    Attributes:
        url: The destination; a secret.
        secret: The key that signs webhooks.
        on: Subscribed events.
        percents: Subscribed percentages.
        groups: Groups whose items it subscribes to, even if they do not name the channel.
        all: It subscribes to all items.
        allow_private: A webhook may connect to this machine or to a private network.
        tail: Messages contain the last lines of the output.
        token: The secret of a chat service.
        to: The room of a chat service.
        edit_seconds: The shortest time between two edits of a message.
        edits_per_minute: The most requests to a chat service.
        max_runs: The most running items whose messages are edited at a time.
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
    tail: bool = False
    token: str = ""
    to: str = ""
    edit_seconds: int = 0
    edits_per_minute: int = 0
    max_runs: int = 0

    def __repr__(self) -> str:
        return f"Channel(name={self.name!r}, kind={self.kind!r}, place={self.destination!r})"

    @property
    def destination(self) -> str:
        """The part of the URL that is not secret: a webhook's host, or the scheme of an Apprise URL.

        For many Apprise services, the host part of the URL is a token.
        """
        if self.kind == "apprise":
            return self.url.partition("://")[0].lower()
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @property
    def events(self) -> list[str]:
        """The subscribed events and percentages, as in the file."""
        return [event for event in EVENT_NAMES if event in self.on] + [f"{percent}%" for percent in self.percents]

    @property
    def keeps_messages(self) -> bool:
        """Whether it has one message for each run, which it edits."""
        return self.kind in CHAT_KINDS

    def wants(self, event: str) -> bool:
        """Return whether an event of an accepted item is sent to it. A kept message always gets the end."""
        return self.subscribes(event) or (self.keeps_messages and event in END_EVENTS)

    def subscribes(self, event: str) -> bool:
        """Return whether an event is among the subscribed ones."""
        return event in self.on or (event.endswith("%") and int(event[:-1]) in self.percents)

    def accepts(self, item: Item) -> bool:
        """Return whether it subscribes to an item."""
        return self.accepts_names(item.notify, item.group)

    def accepts_names(self, names: Collection[str], group: str | None) -> bool:
        """Return whether it subscribes to an item of a group that names some channels."""
        return self.all or self.name in names or group in self.groups


class Channels:
    """All channels of a file.

    Args:
        path: The file; ``None`` for none.

    Raises:
        ConfigError: The file is invalid. The message is one sentence without secrets.

    Attributes:
        kept: The channels that keep messages, sorted by name.
        has_wildcard: Some channels subscribe to items that do not name them.
        percents: All subscribed percentages, in rising order.
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
        """Return a channel by name."""
        return self._channels.get(name)

    def all(self) -> list[Channel]:
        """Return all channels, sorted by name."""
        return sorted(self._channels.values(), key=lambda channel: channel.name)

    def refresh(self) -> bool:
        """Reload the file if it or a secret file has changed; return whether new channels are in effect."""
        if self._path is None or _stat_files([self._path, *self._secret_files]) == self._file_state:
            return False
        try:
            self._load(self._path)
        except ConfigError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                logger.warning("the channels stay as they were: %s", error)
            self._file_state = None  # the error may be in a secret file, so read it again next time
            return False
        self._last_error = ""
        return True

    def _load(self, path: Path) -> None:
        file_state = _stat_files([path])  # taken first, so that a write during the read is noticed
        channels, files = read_channels(path)
        self._secret_files = tuple(files)
        self._file_state = file_state + _stat_files(self._secret_files)
        self._replace_all(channels)

    def _replace_all(self, channels: Iterable[Channel]) -> None:
        self._channels: dict[str, Channel] = {channel.name: channel for channel in channels}
        self.has_channels = bool(self._channels)
        self.kept = [channel for channel in self.all() if channel.keeps_messages]
        self.has_wildcard = any(channel.all or channel.groups for channel in self._channels.values())
        self.percents = tuple(sorted({percent for channel in self._channels.values() for percent in channel.percents}))


def _stat_files(files: Iterable[Path]) -> tuple[tuple[int, int, int] | None, ...]:
    """Return time, size and inode of each file; ``None`` if it is missing."""
    states: list[tuple[int, int, int] | None] = []
    for path in files:
        try:
            stat = path.stat()
            states.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            states.append(None)
    return tuple(states)


def read_channels(path: Path) -> tuple[list[Channel], list[Path]]:
    """Return the channels of a file, and the files that it names.

    Raises:
        ConfigError: The file is invalid, in one sentence.
    """
    text = _read_text(path, str(path))
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is no TOML: {_redact_error(error)}") from None
    tables = document.pop("channels", {})
    if document or not isinstance(tables, dict):
        key = next(iter(document), "channels")
        raise ConfigError(
            f"{path}{_line_suffix(text, key)}: there is {format_value(key)}, and not a table [channels.NAME]"
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
                f"{self._path}{_line_suffix(self._text, name)}: {format_value(name)} is not a valid channel "
                f"name: use letters, digits, '.', '_' and '-', at most {MAX_NOTIFY_LENGTH}"
            )
        if not isinstance(table, dict):
            raise self._config_error("", f"must be a table [channels.{name}]")
        for field in table:
            if field not in _CHANNEL_FIELDS:
                raise self._config_error(
                    field, f"unknown field {format_value(field)}; there are {', '.join(_CHANNEL_FIELDS)}"
                )
        chat = CHAT_KINDS.get(str(table.get("kind")))
        url = self._read_secret(table, "url") or (chat.url if chat else None)
        if not url:
            raise self._config_error("", "url or url_file is missing")
        kind = self._read_kind(table, url)
        key = self._read_signing_key(table) if kind == "webhook" else None
        for field in ("secret", "secret_file") if chat else _CHAT_FIELDS:
            if field in table:
                kinds = "webhooks only" if chat else f"the kinds {', '.join(CHAT_KINDS)}"
                raise self._config_error(field, f"{field} is for {kinds}")
        if kind == "apprise":
            for field in ("secret", "secret_file", "allow_private"):
                if field in table:
                    raise self._config_error(field, f"{field} is for webhooks only")
            if importlib.util.find_spec("apprise") is None:
                raise self._config_error("", "this kind needs the apprise package: pip install apprise")
        on, percents = self._read_events(table)
        return Channel(
            name=name, kind=kind, url=url, secret=key, on=on, percents=percents, groups=self._read_groups(table),
            all=self._read_flag(table, "all"), allow_private=self._read_flag(table, "allow_private"),
            tail=self._read_flag(table, "tail"), **(self._read_chat(table, chat, url) if chat else {}),
        )  # fmt: skip

    def _read_chat(self, table: Mapping[str, object], chat: ChatKind, url: str) -> dict[str, Any]:
        token, to = self._read_secret(table, "token"), table.get("to")
        for field, text, pattern in (("token", token, _TOKEN_PATTERN), ("to", to, _PLACE_PATTERN)):
            if text is None and field in chat.fields:
                raise self._config_error("", f"{field} is missing")
            if text is not None and not (isinstance(text, str) and pattern.fullmatch(text)):
                raise self._config_error(field, f"{field} must be a text of letters, digits and signs")
        if not chat.url and not urlsplit(url).path.strip("/"):
            raise self._config_error("url", "the url has no path: it names the topic or the webhook")
        return {
            "token": token or "",
            "to": to or "",
            "edit_seconds": self._read_number(
                table, "edit_seconds", chat.edit_seconds, MIN_EDIT_SECONDS, MAX_EDIT_SECONDS
            ),
            "edits_per_minute": self._read_number(
                table, "edits_per_minute", chat.edits_per_minute, 1, MAX_EDITS_PER_MINUTE
            ),
            "max_runs": self._read_number(table, "max_runs", DEFAULT_KEPT_RUNS, 1, MAX_KEPT_RUNS),
        }

    def _read_number(self, table: Mapping[str, object], field: str, default: int, least: int, most: int) -> int:
        number = table.get(field, default)
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise self._config_error(field, f"{field} must be a whole number from {least} to {most}")
        return number

    def _read_kind(self, table: Mapping[str, object], url: str) -> ChannelKind:
        scheme = url.partition("://")[0].lower()
        if scheme == url.lower() or has_control(url) or any(c.isspace() for c in url):
            raise self._config_error("url", "url is not an address such as https://host/path or ntfy://topic")
        kind = table.get("kind", "webhook" if scheme in ("http", "https") else "apprise")
        if kind == "apprise":
            return "apprise"
        if not isinstance(kind, str) or kind not in _CHANNEL_KINDS:
            raise self._config_error(
                "kind", f"kind must be one of {', '.join(_CHANNEL_KINDS)}, not {format_value(kind)}"
            )
        try:
            parts = urlsplit(url)
            is_valid = scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise self._config_error("url", f"the url of a {kind} must be an http:// or https:// address with a host")
        return _CHANNEL_KINDS[kind]

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
        if any(not 1 <= len(group) <= MAX_GROUP_LENGTH for group in groups):
            raise self._config_error("groups", f"groups must be names of 1 to {MAX_GROUP_LENGTH} characters")
        return frozenset(groups)

    def _read_texts(self, table: Mapping[str, object], field: str) -> list[str]:
        texts = table.get(field, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise self._config_error(field, f"{field} must be a list of texts")
        return texts

    def _read_flag(self, table: Mapping[str, object], field: str) -> bool:
        flag = table.get(field, False)
        if not isinstance(flag, bool):
            raise self._config_error(field, f"{field} must be true or false")
        return flag

    def _read_secret(self, table: Mapping[str, object], field: str) -> str | None:
        """Return the text of a field, or of the file that its ``_file`` field names."""
        value, file_name = table.get(field), table.get(f"{field}_file")
        if value is not None and file_name is not None:
            raise self._config_error(field, f"{field} and {field}_file are both there: keep one")
        if value is not None:
            if not isinstance(value, str) or not value:
                raise self._config_error(field, f"{field} must be a text")
            return value
        if file_name is None:
            return None
        if not isinstance(file_name, str) or not file_name or "\0" in file_name:
            raise self._config_error(f"{field}_file", f"{field}_file must be the name of a file")
        path = self._path.parent / file_name
        self.files.append(path)
        text = _read_text(
            path, f"{self._path}{_line_suffix(self._text, self._name, f'{field}_file')}: {field}_file {path}"
        ).strip()
        if not text:
            raise self._config_error(f"{field}_file", f"{field}_file {path} is empty")
        return text

    def _config_error(self, field: str, reason: str) -> ConfigError:
        return ConfigError(
            f"{self._path}{_line_suffix(self._text, self._name, field)}: channels.{self._name}: {reason}"
        )


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
    """Return ``" line 5"`` for a field of a table, else for the table; ``""`` if neither is found."""
    is_in_table, table_line = False, 0
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip().replace('"', "").replace("'", "")
        if words.startswith("["):
            is_in_table = words.strip("[] ").removeprefix("channels.") == name
            table_line = number if is_in_table else table_line
        elif (is_in_table and field and re.match(rf"{re.escape(field)}\s*=", words)) or (
            not table_line and re.match(rf"{re.escape(name)}\s*=", words)
        ):
            return f" line {number}"
    return f" line {table_line}" if table_line else ""


def _redact_error(error: tomllib.TOMLDecodeError) -> str:
    """Return the error and its position without the text of the file, which may be a secret."""
    position = re.search(r"\(at (?:line \d+, column \d+|end of document)\)$", str(error))
    reason = re.split(r"[:('\"]", str(error))[0].strip()
    return f"{reason or 'it cannot be read'} {position[0] if position else ''}".strip()
