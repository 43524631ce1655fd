from __future__ import annotations

from pathlib import Path

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.cli.serve import serve
from progressbar_tracker.server.settings import Settings, default_database


def test_empty_environment_gives_defaults() -> None:
    settings = Settings.from_environ({})
    assert (settings.host, settings.port, settings.base_path, settings.local_key) == ("127.0.0.1", 8989, "", True)
    assert settings.database == default_database()


@pytest.mark.parametrize(
    "text", ["host=a,b dbname=bars", "dbname = bars", "service=bars", "user=me password=secret host=/run/postgresql"]
)
def test_libpq_string_is_no_file(text: str) -> None:
    with pytest.raises(ConfigError, match="postgresql:// URL") as refusal:
        Settings.from_environ({"PROGRESSBAR_DATABASE": text})
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("name", ["progress host.db", "ghost=1.db", "a=b.db"])
def test_file_name_with_a_sign_is_a_file(name: str) -> None:
    assert Settings.from_environ({"PROGRESSBAR_DATABASE": name}).database == Path(name)


def test_arguments_override_the_environment(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("pass phrase\n")
    environ = {
        "PROGRESSBAR_HOST": "0.0.0.0",
        "PROGRESSBAR_PORT": "1234",
        "PROGRESSBAR_DATABASE": "/data/p.db",
        "PROGRESSBAR_BASE_PATH": "/p/",
        "PROGRESSBAR_MAX_ITEMS": "5",
        "PROGRESSBAR_MAX_REQUESTS": "7",
        "PROGRESSBAR_LOCAL_KEY": "no",
        "PROGRESSBAR_PUBLIC_READ": "yes",
        "PROGRESSBAR_ADMIN_KEY": "k" * 24,
        "ADMIN_USERNAME": "root",
        "ADMIN_PASSWORD_FILE": str(tmp_path / "password"),
    }
    settings = Settings.from_environ(environ, port=99, host=None)
    assert (settings.host, settings.port, settings.database, settings.base_path) == (
        "0.0.0.0",
        99,
        Path("/data/p.db"),
        "/p",
    )
    assert (settings.max_items, settings.max_requests, settings.local_key, settings.admin_key) == (
        5,
        7,
        False,
        "k" * 24,
    )
    public_url = Settings.from_environ({"PROGRESSBAR_PUBLIC_URL": "https://progress.example:8443/p/"}).public_url
    assert public_url == "https://progress.example:8443/p"
    assert (settings.public_read, Settings.from_environ({}).public_read) == (True, False)
    assert (settings.admin_username, settings.admin_password) == ("root", "pass phrase")


INVALID_VALUES = {
    "host": ("0.0.0.0", None), "port": (99, "many"), "database": ("other.db", "mysql://host/name"),
    "base_path": ("/p", "p?"), "public_url": ("https://host", "host"), "local_key": (False, "perhaps"),
    "max_items": (5, "many"), "max_requests": (5, "many"), "public_read": (True, "perhaps"), "keep": ("1d", "long"),
    "history": ("1d", "long"), "give_up": ("1d", "long"), "credential_age": ("5m", "1s"),
    "drain": ("5", "forever"), "stall_after": ("90", "long"), "stuck": (False, "perhaps"),
    "metrics_items": (5, "many"), "log_format": ("json", "xml"),
    "log_level": ("debug", "loud"), "access_log": (True, "perhaps"), "channels": ("channels.toml", None),
    "max_unread": (16, "1"), "trusted_proxies": ("10.0.0.1", "proxy"), "allowed_hosts": ("a.example", "http://a"),
    "push_origins": ("https://push.lan:8443", "push.lan"),
    "monitor_url": ("https://host/x", "host"),
}  # fmt: skip
"""By setting: a valid argument, and an invalid text of its variable; ``None`` if every text is valid."""

OPTION_NAMES = sorted(option.name for option in serve.params if option.name != "help")


@pytest.mark.parametrize("name", OPTION_NAMES)
def test_argument_overrides_even_an_invalid_variable(name: str) -> None:
    value, text = INVALID_VALUES[name]
    variable = f"PROGRESSBAR_{name.upper()}"
    without = getattr(Settings.from_environ({}, **{name: value}), name)
    assert getattr(Settings.from_environ({variable: text or "other"}, **{name: value}), name) == without


@pytest.mark.parametrize("name", [name for name in OPTION_NAMES if INVALID_VALUES[name][1] is not None])
def test_invalid_variable_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^PROGRESSBAR_{name.upper()} "):
        Settings.from_environ({f"PROGRESSBAR_{name.upper()}": INVALID_VALUES[name][1] or ""})


def test_secret_argument_overrides_its_file() -> None:
    environ = {"PROGRESSBAR_ADMIN_KEY_FILE": "/does/not/exist", "PROGRESSBAR_ADMIN_KEY": "short"}
    assert Settings.from_environ(environ, admin_key="k" * 24).admin_key == "k" * 24


@pytest.mark.parametrize("text", ["tcp://10.0.0.7:8989", "udp://10.0.0.7:53", "tcp://[fd00::7]:8989", " tcp://a:1 "])
def test_port_set_by_kubernetes_is_ignored(text: str) -> None:
    assert Settings.from_environ({"PROGRESSBAR_PORT": text}).port == 8989


@pytest.mark.parametrize("text", ["http://10.0.0.7:8989", "tcp://", "10.0.0.7:8989", "tcp://a b"])
def test_port_that_is_not_a_number_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="PROGRESSBAR_PORT"):
        Settings.from_environ({"PROGRESSBAR_PORT": text})


def test_settings_repr_shows_no_secret() -> None:
    environ = {"ADMIN_USERNAME": "u", "ADMIN_PASSWORD": "hidden", "PROGRESSBAR_ADMIN_KEY": "hidden" * 5}
    assert "hidden" not in repr(Settings.from_environ(environ))


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"PROGRESSBAR_PORT": "many"}, "PROGRESSBAR_PORT"),
        ({"PROGRESSBAR_PORT": "65536"}, "PROGRESSBAR_PORT"),
        ({"PROGRESSBAR_MAX_ITEMS": "0"}, "PROGRESSBAR_MAX_ITEMS"),
        ({"PROGRESSBAR_MAX_REQUESTS": "-1"}, "PROGRESSBAR_MAX_REQUESTS"),
        ({"PROGRESSBAR_LOCAL_KEY": "perhaps"}, "PROGRESSBAR_LOCAL_KEY"),
        ({"PROGRESSBAR_PUBLIC_READ": "perhaps"}, "PROGRESSBAR_PUBLIC_READ"),
        ({"PROGRESSBAR_BASE_PATH": "p"}, "PROGRESSBAR_BASE_PATH"),
        ({"PROGRESSBAR_BASE_PATH": "/p?x"}, "PROGRESSBAR_BASE_PATH"),
        ({"PROGRESSBAR_PUBLIC_URL": "progress.example"}, "PROGRESSBAR_PUBLIC_URL"),
        ({"PROGRESSBAR_PUBLIC_URL": "https://me:secret@progress.example"}, "PROGRESSBAR_PUBLIC_URL"),
        ({"PROGRESSBAR_ADMIN_KEY": "short"}, "PROGRESSBAR_ADMIN_KEY"),
        ({"PROGRESSBAR_ADMIN_KEY": "ü" * 30}, "PROGRESSBAR_ADMIN_KEY"),
        ({"PROGRESSBAR_ADMIN_KEY_FILE": "/does/not/exist"}, "PROGRESSBAR_ADMIN_KEY_FILE"),
        ({"PROGRESSBAR_ADMIN_KEY_FILE": "/x", "PROGRESSBAR_ADMIN_KEY": "k" * 24}, "PROGRESSBAR_ADMIN_KEY_FILE"),
        ({"ADMIN_USERNAME": "root"}, "ADMIN_PASSWORD"),
        ({"ADMIN_PASSWORD": "secret"}, "ADMIN_USERNAME"),
        ({"ADMIN_USERNAME": "root", "ADMIN_PASSWORD_FILE": "/dev/null"}, "ADMIN_PASSWORD_FILE"),
    ],
)
def test_invalid_value_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        Settings.from_environ(environ)
    assert "secret" not in str(error.value)


def test_database_url_is_read_from_a_file(tmp_path: Path) -> None:
    url = "postgresql://me:secret@db/bars"
    (tmp_path / "database").write_text(f"{url}\n")
    environ = {"PROGRESSBAR_DATABASE": "", "PROGRESSBAR_DATABASE_FILE": str(tmp_path / "database")}
    settings = Settings.from_environ(environ)
    assert (settings.database, settings.redacted_database) == (url, "postgresql://me@db/bars")
    assert Settings.from_environ(environ, database="bars.db").database == Path("bars.db")
    with pytest.raises(ConfigError, match=r"PROGRESSBAR_DATABASE and PROGRESSBAR_DATABASE_FILE are both set: keep one"):
        Settings.from_environ({**environ, "PROGRESSBAR_DATABASE": "bars.db"})
