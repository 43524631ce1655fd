from __future__ import annotations

from pathlib import Path

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.settings import Settings, default_database


def test_without_anything_set_there_are_defaults() -> None:
    made = Settings.from_environ({})
    assert (made.host, made.port, made.base_path, made.local_key) == ("127.0.0.1", 8989, "", True)
    assert made.database == default_database()


def test_the_environment_is_read_and_arguments_go_first(tmp_path: Path) -> None:
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
    made = Settings.from_environ(environ, port=99, host=None)
    assert (made.host, made.port, made.database, made.base_path) == ("0.0.0.0", 99, Path("/data/p.db"), "/p")
    assert (made.max_items, made.max_requests, made.local_key, made.admin_key) == (5, 7, False, "k" * 24)
    there = Settings.from_environ({"PROGRESSBAR_PUBLIC_URL": "https://progress.example:8443/p/"})
    assert there.public_url == "https://progress.example:8443/p"
    assert (made.public_read, Settings.from_environ({}).public_read) == (True, False)
    assert (made.admin_username, made.admin_password) == ("root", "pass phrase")


def test_a_repr_shows_no_secret() -> None:
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
def test_a_value_that_cannot_be_used_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        Settings.from_environ(environ)
    assert "secret" not in str(error.value)
