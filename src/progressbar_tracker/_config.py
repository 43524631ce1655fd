"""Find the server's URL and the key.

Order of discovery: arguments, ``configure()``, the environment (``PROGRESSBAR_URL``, ``PROGRESSBAR_API_KEY`` or
``PROGRESSBAR_API_KEY_FILE``), the user's config file. A URL is combined only with a key of the same layer, or with one
that is configured for the same URL: a key must not be sent to another server.

The environment and the file's path are arguments, so that tests cannot touch the real ones. ``tomllib`` and
``platformdirs`` are imported at their first use: this module is on the path of ``import progressbar_tracker``.
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
PRINT_GUARD_VARIABLE: Final = "PROGRESSBAR_PRINT_GUARD"
TASKBAR_VARIABLE: Final = "PROGRESSBAR_TASKBAR"
REPORTER_VARIABLE: Final = "PROGRESSBAR_REPORTER"
ENVIRONMENT_VARIABLE: Final = "PROGRESSBAR_ENVIRONMENT"
STOPPABLE_VARIABLE: Final = "PROGRESSBAR_STOPPABLE"
MASK_VARIABLE: Final = "PROGRESSBAR_MASK"

NEGATIVE_WORDS: Final = ("0", "no", "off", "false")


class Config(NamedTuple):
    """A server and the key for it.

    Attributes:
        url: The server's base URL, such as ``"http://localhost:8989"``.
        api_key: The key; hidden by ``repr``.
        source: Where the URL was found, for a message.
        key_source: Where the key was found, for a message.
    """

    url: str
    api_key: str
    source: str
    key_source: str

    def __repr__(self) -> str:
        return f"Config(url={self.url!r}, api_key=<hidden>, source={self.source!r}, key_source={self.key_source!r})"


def get_user_config_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the user's config file: ``PROGRESSBAR_CONFIG``, or the default of the system."""
    from pathlib import Path

    if path := environ.get(CONFIG_VARIABLE):
        return Path(path)
    import platformdirs

    folder = resolve_user_folder(lambda: platformdirs.user_config_path("progressbar-tracker", appauthor=False))
    if folder is None:
        raise ConfigError(f"there is no home folder for the config file: set HOME, or {CONFIG_VARIABLE}")
    return folder / "config.toml"


def resolve_user_folder(find: Callable[[], Path]) -> Path | None:
    """Return the result of ``find``, or ``None`` for a user without a home: no ``HOME`` and no entry in passwd."""
    try:
        folder = find()
    except RuntimeError:
        return None
    return None if folder.parts[:1] == ("~",) else folder  # earlier versions of platformdirs return "~"


def read_text(path: Path) -> str:
    """Return the text of a file that a person wrote, without a byte order mark.

    Raises:
        ConfigError: The file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("it is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise ConfigError(getattr(error, "strerror", None) or str(error)) from error


def read_user_config(path: Path) -> Config | None:
    """Read the config file, or return ``None`` if it does not exist.

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
        if name not in table:
            # An entry is named by its key alone: a value may be a secret.
            others = ", ".join(ascii(other)[1:-1] for other in table if other not in ("url", "api_key"))
            raise ConfigError(f"the config file {path} has no {name}{f', but the unknown {others}' if others else ''}")
        if not isinstance(table[name], str) or not table[name]:
            raise ConfigError(f'the config file {path} has a wrong {name}: it must be a text in quotes, {name} = "..."')
    source = f"the config file {path}"
    return Config(table["url"], table["api_key"], source, source)


def write_user_config(path: Path, url: str, api_key: str) -> None:
    """Write the config file in one step, readable by its owner alone (mode 0600).

    Raises:
        ConfigError: The folder or the file cannot be written.
    """
    import json
    import tempfile

    # A JSON string is a TOML basic string, except that TOML requires DEL to be escaped.
    text = "".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n".replace("\x7f", "\\u007f")
        for name, value in (("url", url), ("api_key", api_key))
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # mkstemp creates the file with mode 0600; the rename makes it complete or absent.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write("# Where track() sends progress to. Written by progressbar-tracker.\n" + text)
            os.replace(temporary, path)  # noqa: PTH105 - pathlib's replace() needs one object more
        except BaseException:
            os.unlink(temporary)  # noqa: PTH108
            raise
    except UnicodeEncodeError:
        # Neither the error nor its chain may show the key.
        raise ConfigError(f"the config file {path} cannot be written: a lone surrogate is not text") from None
    except OSError as error:
        raise ConfigError(f"the config file {path} cannot be written: {error.strerror or error}") from error


def remove_user_config(path: Path) -> str | None:
    """Remove the config file, and return the URL that it had; ``None`` if there is no file.

    Raises:
        ConfigError: It is not a config file, or cannot be removed.
    """
    config = read_user_config(path)
    if config is None:
        return None
    try:
        path.unlink()
    except OSError as error:
        raise ConfigError(f"the config file {path} cannot be removed: {error.strerror or error}") from error
    return config.url


def add_error_source(config: Config, error: ConfigError) -> ConfigError:
    """Name the place where a person has to correct a URL or a key, in an error that starts with the argument's name.

    An error that names its variable is returned unchanged.

    >>> found = Config("server:8989", "k", "PROGRESSBAR_URL", "PROGRESSBAR_API_KEY")
    >>> str(add_error_source(found, ConfigError("api_url must be a URL")))
    'PROGRESSBAR_URL must be a URL'
    """
    name, _, rest = str(error).partition(" ")
    source = {"api_url": config.source, "api_key": config.key_source}.get(name)
    if source is None:
        return error
    if source in (URL_VARIABLE, API_KEY_VARIABLE):
        return ConfigError(f"{source} {rest}")
    return ConfigError(f"{source}: {'url' if name == 'api_url' else name} {rest}")


def is_disabled(environ: Mapping[str, str]) -> bool:
    """Return whether ``PROGRESSBAR_DISABLE`` turns tracking off: any value except empty, 0, no, off and false."""
    return _is_turned_on(environ, DISABLE_VARIABLE)


def are_loops_stoppable(environ: Mapping[str, str]) -> bool:
    """Return whether ``PROGRESSBAR_STOPPABLE`` makes outermost loops stoppable: any value, as for ``is_disabled()``."""
    return _is_turned_on(environ, STOPPABLE_VARIABLE)


def _is_turned_on(environ: Mapping[str, str], variable: str) -> bool:
    return environ.get(variable, "").strip().lower() not in ("", *NEGATIVE_WORDS)


def is_turned_off(environ: Mapping[str, str], variable: str) -> bool:
    """Return whether a variable turns off what is on by default: 0, no, off or false."""
    return environ.get(variable, "").strip().lower() in NEGATIVE_WORDS


def read_environ_key(environ: Mapping[str, str]) -> str | None:
    """Return the key from the environment, directly or from the file that it names.

    Raises:
        ConfigError: ``PROGRESSBAR_API_KEY_FILE`` names a file that cannot be read or is empty.
    """
    key_and_source = _find_environ_key(environ)
    return None if key_and_source is None else key_and_source[0]


def _find_environ_key(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the key from the environment, and its source for a message."""
    if key := environ.get(API_KEY_VARIABLE):
        return key, API_KEY_VARIABLE
    if not (path := environ.get(API_KEY_FILE_VARIABLE)):
        return None
    from pathlib import Path

    try:
        key = read_text(Path(path)).strip()
    except ConfigError as error:
        raise ConfigError(f"{API_KEY_FILE_VARIABLE} names {path}, which cannot be read: {error}") from error
    if not key:
        raise ConfigError(f"{API_KEY_FILE_VARIABLE} names {path}, which is empty")
    return key, f"the file {path}, which {API_KEY_FILE_VARIABLE} names"


def discover(
    environ: Mapping[str, str], *, url: str | None = None, api_key: str | None = None, path: Path | None = None
) -> Config | None:
    """Find the server and the key, or return ``None`` if none is configured.

    Args:
        environ: The environment, usually ``os.environ``.
        url: A URL from the program; overrides every other source.
        api_key: A key from the program.
        path: The config file; by default ``get_user_config_path(environ)``.

    Raises:
        ConfigError: A setting cannot be used, or there is a URL without a key.

    >>> discover({"PROGRESSBAR_URL": "http://server:8989", "PROGRESSBAR_API_KEY": "k"}).source
    'PROGRESSBAR_URL'
    """
    env_url = environ.get(URL_VARIABLE) or None
    server_url, source = (url, "configure()") if url else (env_url, URL_VARIABLE)
    # A key without a URL of the same layer is for any configured server.
    if api_key:
        key: tuple[str, str] | None = api_key, "configure()"
    else:
        key = _find_environ_key(environ) if not url or not env_url or is_same_server(url, env_url) else None
    if server_url and key:
        return Config(server_url, key[0], source, key[1])
    file = _read_default_config(environ) if path is None else read_user_config(path)
    if not server_url:
        if file is None and key:
            raise ConfigError(f"there is a key but no server: set {URL_VARIABLE} as well")
        return file if file is None or not key else file._replace(api_key=key[0], key_source=key[1])
    if file is not None and is_same_server(file.url, server_url):
        return Config(server_url, file.api_key, source, file.key_source)
    raise ConfigError(
        f"there is no key for {server_url}: set {API_KEY_VARIABLE}, or run: progressbar-tracker login {server_url}"
    )


def _read_default_config(environ: Mapping[str, str]) -> Config | None:
    try:
        path = get_user_config_path(environ)
    except ConfigError:
        return None  # a user without a home folder has no config file
    return read_user_config(path)


def is_same_server(url: str, other: str) -> bool:
    """Return whether two URLs differ at most in slashes at the end."""
    return url.rstrip("/") == other.rstrip("/")
