"""Where the server's URL and the key come from.

Order of discovery: arguments, ``configure()``, the environment (``PROGRESSBAR_URL``, ``PROGRESSBAR_API_KEY`` or
``PROGRESSBAR_API_KEY_FILE``), the user's config file. A URL only ever meets a key of its own layer or one that was
given for the same URL: a key must not travel to a server it was not meant for.

The environment and the file's path are arguments, so that no test can touch the real ones. ``tomllib`` and
``platformdirs`` are imported where needed: this module is on the path of ``import progressbar_tracker``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from ._errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

URL_VARIABLE: Final = "PROGRESSBAR_URL"
API_KEY_VARIABLE: Final = "PROGRESSBAR_API_KEY"
API_KEY_FILE_VARIABLE: Final = "PROGRESSBAR_API_KEY_FILE"
DISABLE_VARIABLE: Final = "PROGRESSBAR_DISABLE"
CONFIG_VARIABLE: Final = "PROGRESSBAR_CONFIG"
PARENT_VARIABLE: Final = "PROGRESSBAR_PARENT"


class Config(NamedTuple):
    """A server and the key for it.

    Attributes:
        url: The server's base URL, such as ``"http://localhost:8989"``.
        api_key: The key. Not shown by ``repr``.
        source: Where the URL was found, in words for a person.
        key_source: The same of the key.
    """

    url: str
    api_key: str
    source: str
    key_source: str

    def __repr__(self) -> str:
        return f"Config(url={self.url!r}, api_key=<hidden>, source={self.source!r}, key_source={self.key_source!r})"


def get_user_config_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the user's config file: ``PROGRESSBAR_CONFIG``, or where the system keeps such files."""
    from pathlib import Path

    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    import platformdirs

    folder = resolve_user_folder(lambda: platformdirs.user_config_path("progressbar-tracker", appauthor=False))
    if folder is None:
        raise ConfigError(f"there is no home folder for the config file: set HOME, or {CONFIG_VARIABLE}")
    return folder / "config.toml"


def resolve_user_folder(find: Callable[[], Path]) -> Path | None:
    """Return what ``find`` does, or ``None`` for a user without a home: no ``HOME``, and no entry in passwd."""
    try:
        folder = find()
    except RuntimeError:
        return None
    return None if folder.parts[:1] == ("~",) else folder  # as earlier versions of platformdirs have it


def read_text(path: Path) -> str:
    """Return the text of a file that a person wrote, without the mark that some editors put before it.

    Raises:
        ConfigError: It cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise ConfigError(getattr(error, "strerror", None) or str(error)) from error


def read_user_config(path: Path) -> Config | None:
    """Return what the config file says, or ``None`` where there is no such file.

    Raises:
        ConfigError: The file cannot be read, is not TOML, or lacks ``url`` or ``api_key``.
    """
    import tomllib

    try:
        text = read_text(path)
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise ConfigError(f"the config file {path} cannot be read: {error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the config file {path} is not valid TOML: {error}") from error
    for name in ("url", "api_key"):
        if not isinstance(table.get(name), str) or not table[name]:
            raise ConfigError(f"the config file {path} has no {name}")
    source = f"the config file {path}"
    return Config(table["url"], table["api_key"], source, source)


def write_user_config(path: Path, url: str, api_key: str) -> None:
    """Write the config file in one step, readable by its owner alone (mode 0600).

    Raises:
        ConfigError: The folder or the file cannot be written.
    """
    import json
    import tempfile

    # A JSON string is a TOML basic string, but for DEL, which only TOML wants escaped.
    text = "".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")
        for name, value in (("url", url), ("api_key", api_key))
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp makes the file 0600 from its first instant; the rename makes it whole or absent.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write("# Where track() sends progress to. Written by progressbar-tracker.\n" + text)
            os.replace(temporary, path)  # noqa: PTH105 - pathlib's replace() says the same with one object more
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108
            raise
    except UnicodeEncodeError:
        # Neither the error nor its chain may show the key.
        raise ConfigError(f"the config file {path} cannot be written: a lone surrogate is not text") from None
    except OSError as error:
        raise ConfigError(f"the config file {path} cannot be written: {error.strerror or error}") from error


def add_error_source(found: Config, error: ConfigError) -> ConfigError:
    """Return an error about a URL or a key with the place it was found in, for a person has to mend it there.

    Such an error begins with the name of the argument. One of another kind names its variable, and stays as it is.
    """
    name = str(error).partition(" ")[0]
    source = {"api_url": found.source, "api_key": found.key_source}.get(name)
    return error if source is None else ConfigError(f"{source}: {error}")


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Say whether ``PROGRESSBAR_DISABLE`` turns tracking off: any value but empty, 0, no, off and false does."""
    return environ.get(DISABLE_VARIABLE, "").strip().lower() not in ("", "0", "no", "off", "false")


def read_environ_key(environ: Mapping[str, str]) -> str | None:
    """Return the key that the environment names, directly or as a file.

    Raises:
        ConfigError: ``PROGRESSBAR_API_KEY_FILE`` names a file that cannot be read or is empty.
    """
    found = _find_environ_key(environ)
    return None if found is None else found[0]


def _find_environ_key(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the key that the environment names, and where it says so."""
    if key := environ.get(API_KEY_VARIABLE):
        return key, API_KEY_VARIABLE
    if not (named := environ.get(API_KEY_FILE_VARIABLE)):
        return None
    from pathlib import Path

    try:
        key = read_text(Path(named)).strip()
    except ConfigError as error:
        raise ConfigError(f"{API_KEY_FILE_VARIABLE} names {named}, which cannot be read: {error}") from error
    if not key:
        raise ConfigError(f"{API_KEY_FILE_VARIABLE} names {named}, which is empty")
    return key, f"the file {named}, which {API_KEY_FILE_VARIABLE} names"


def discover(
    environ: Mapping[str, str], *, url: str | None = None, api_key: str | None = None, path: Path | None = None
) -> Config | None:
    """Find the server and the key, or return ``None`` where nothing is configured.

    Args:
        environ: The environment, usually ``os.environ``.
        url: A URL given in code; goes before everything else.
        api_key: A key given in code.
        path: The config file; by default ``user_config_path(environ)``.

    Raises:
        ConfigError: A setting is there and cannot be used, or a URL comes without a key.

    >>> discover({"PROGRESSBAR_URL": "http://server:8989", "PROGRESSBAR_API_KEY": "k"}).source
    'PROGRESSBAR_URL'
    """
    env_url = environ.get(URL_VARIABLE) or None
    wanted, source = (url, "configure()") if url else (env_url, URL_VARIABLE)
    # A key without a URL beside it is for whatever server is configured.
    if api_key:
        found: tuple[str, str] | None = api_key, "configure()"
    else:
        found = _find_environ_key(environ) if not url or not env_url or is_same_server(url, env_url) else None
    if wanted and found:
        return Config(wanted, found[0], source, found[1])
    file = _read_default_config(environ) if path is None else read_user_config(path)
    if not wanted:
        if file is None and found:
            raise ConfigError(f"there is a key but no server: set {URL_VARIABLE} as well")
        return file if file is None or not found else file._replace(api_key=found[0], key_source=found[1])
    if file is not None and is_same_server(file.url, wanted):
        return Config(wanted, file.api_key, source, file.key_source)
    raise ConfigError(
        f"there is no key for {wanted}: set {API_KEY_VARIABLE}, or run: progressbar-tracker login {wanted}"
    )


def _read_default_config(environ: Mapping[str, str]) -> Config | None:
    try:
        path = get_user_config_path(environ)
    except ConfigError:
        return None  # a user without a home folder has no config file
    return read_user_config(path)


def is_same_server(one: str, other: str) -> bool:
    """Say whether two URLs are those of one server."""
    return one.rstrip("/") == other.rstrip("/")
