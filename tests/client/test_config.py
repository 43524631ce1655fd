"""Sources of the URL and the key. A key is never used with another server's URL."""

from __future__ import annotations

import os
import stat
import tomllib
from pathlib import Path

import platformdirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from progressbar_tracker import ConfigError
from progressbar_tracker import _config as config_module
from progressbar_tracker._config import (
    Config,
    discover,
    get_user_config_path,
    is_disabled,
    read_environ_key,
    read_user_config,
    write_user_config,
)

CODE_VALUES, ENV_VALUES, FILE_VALUES = "http://code:1", "http://env:2", "http://file:3"
posix = pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
HOSTILE_TEXTS = [
    "",
    " ",
    '"',
    "\\",
    '\\"',
    "'''",
    '"""',
    "\\u0041",
    "\n",
    "\r\n",
    "\t",
    "\x00",
    "\x1f",
    "\x7f",
    "#",
    "]\n[table]\nurl = 1",
    'x"\napi_key = "other',
    "ü😀مرحبا",
    "\u2028",
    "\ufeff",
]


def make_environ(*, url=None, key=None, key_file=None, config=None):
    given_values = {
        "PROGRESSBAR_URL": url,
        "PROGRESSBAR_API_KEY": key,
        "PROGRESSBAR_API_KEY_FILE": key_file,
        "PROGRESSBAR_CONFIG": config,
    }
    return {name: str(value) for name, value in given_values.items() if value is not None}


@pytest.fixture
def missing_path(tmp_path):
    """The path of a configuration file that does not exist."""
    return tmp_path / "absent.toml"


@pytest.fixture
def config_path(tmp_path):
    """The path of a configuration file with a URL and a key."""
    path = tmp_path / "config.toml"
    write_user_config(path, FILE_VALUES, "file-key")
    return path


def url_and_key(config):
    assert config is not None
    return config.url, config.api_key


# ---------------------------------------------------------------- order


def test_empty_configuration_raises_nothing(missing_path):
    assert discover({}, path=missing_path) is None


def test_arguments_override_environment_and_file(config_path):
    config = discover(
        make_environ(url=ENV_VALUES, key="env-key"), url=CODE_VALUES, api_key="code-key", path=config_path
    )
    assert config == Config(CODE_VALUES, "code-key", "configure()", "configure()")


def test_environment_overrides_file(config_path):
    config = discover(make_environ(url=ENV_VALUES, key="env-key"), path=config_path)
    assert config == Config(ENV_VALUES, "env-key", "PROGRESSBAR_URL", "PROGRESSBAR_API_KEY")


def test_file_has_lowest_priority(config_path):
    assert discover({}, path=config_path) == Config(
        FILE_VALUES, "file-key", f"the config file {config_path}", f"the config file {config_path}"
    )


def test_file_is_located_by_environment(config_path):
    assert url_and_key(discover(make_environ(config=config_path))) == (FILE_VALUES, "file-key")


@pytest.mark.parametrize("name", ["PROGRESSBAR_URL", "PROGRESSBAR_API_KEY", "PROGRESSBAR_API_KEY_FILE"])
def test_empty_variable_counts_as_unset(config_path, name):
    assert url_and_key(discover({name: ""}, path=config_path)) == (FILE_VALUES, "file-key")


def test_default_file_is_in_system_folder():
    assert (
        get_user_config_path({})
        == platformdirs.user_config_path("progressbar-tracker", appauthor=False) / "config.toml"
    )


def test_variable_names_config_file(tmp_path):
    assert get_user_config_path(make_environ(config=tmp_path / "mine.toml")) == tmp_path / "mine.toml"


# ---------------------------------------------------------------- which key meets which URL


def test_key_in_code_is_used_with_url_of_environment(missing_path):
    assert url_and_key(discover(make_environ(url=ENV_VALUES), api_key="code-key", path=missing_path)) == (
        ENV_VALUES,
        "code-key",
    )


def test_key_in_code_overrides_key_of_environment(missing_path):
    assert url_and_key(
        discover(make_environ(url=ENV_VALUES, key="env-key"), api_key="code-key", path=missing_path)
    ) == (ENV_VALUES, "code-key")


def test_key_in_code_is_used_with_url_of_file(config_path):
    assert url_and_key(discover({}, api_key="code-key", path=config_path)) == (FILE_VALUES, "code-key")


def test_key_of_environment_is_used_with_url_in_code(missing_path):
    assert url_and_key(discover(make_environ(key="env-key"), url=CODE_VALUES, path=missing_path)) == (
        CODE_VALUES,
        "env-key",
    )


def test_key_of_environment_is_used_with_url_of_file(config_path):
    assert url_and_key(discover(make_environ(key="env-key"), path=config_path)) == (FILE_VALUES, "env-key")


def test_environment_key_is_never_used_with_another_url(missing_path):
    with pytest.raises(ConfigError, match=f"no key for {CODE_VALUES}"):
        discover(make_environ(url=ENV_VALUES, key="env-key"), url=CODE_VALUES, path=missing_path)


def test_environment_key_is_used_with_same_url_in_code(missing_path):
    assert url_and_key(
        discover(make_environ(url=ENV_VALUES + "/", key="env-key"), url=ENV_VALUES, path=missing_path)
    ) == (ENV_VALUES, "env-key")


def test_file_key_is_never_used_with_another_url_in_code(config_path):
    with pytest.raises(ConfigError, match="no key for http://other"):
        discover({}, url="http://other", path=config_path)


def test_file_key_is_never_used_with_another_environment_url(config_path):
    with pytest.raises(ConfigError, match="no key for http://other"):
        discover(make_environ(url="http://other"), path=config_path)


@pytest.mark.parametrize(
    "near", [FILE_VALUES + "0", FILE_VALUES + "/sub", "https" + FILE_VALUES[4:], FILE_VALUES[:-1], "http://file"]
)
def test_file_key_is_not_used_with_similar_url(config_path, near):
    with pytest.raises(ConfigError, match="no key for"):
        discover(make_environ(url=near), path=config_path)


def test_file_key_is_used_with_same_url_from_elsewhere(config_path):
    config = discover(make_environ(url=FILE_VALUES + "/"), path=config_path)
    assert config == Config(FILE_VALUES + "/", "file-key", "PROGRESSBAR_URL", f"the config file {config_path}")
    assert discover({}, url=FILE_VALUES, path=config_path) == Config(
        FILE_VALUES, "file-key", "configure()", f"the config file {config_path}"
    )


def test_url_in_code_uses_file_key_of_same_server(config_path):
    assert url_and_key(discover(make_environ(url=ENV_VALUES, key="env-key"), url=FILE_VALUES, path=config_path)) == (
        FILE_VALUES,
        "file-key",
    )


def test_url_without_key_error_names_the_setting(missing_path):
    with pytest.raises(ConfigError, match=r"no key for http://env:2: set PROGRESSBAR_API_KEY, or run: .* login http"):
        discover(make_environ(url=ENV_VALUES), path=missing_path)


@pytest.mark.parametrize(("in_code", "in_environment"), [("k", None), (None, "k")])
def test_key_without_url_error_names_the_setting(missing_path, in_code, in_environment):
    with pytest.raises(ConfigError, match="a key but no server: set PROGRESSBAR_URL"):
        discover(make_environ(key=in_environment), api_key=in_code, path=missing_path)


layers = st.sampled_from([None, CODE_VALUES, ENV_VALUES, FILE_VALUES])
keys = st.booleans()


@given(code_url=layers, env_url=layers, file_url=layers, code_key=keys, env_key=keys)
def test_no_combination_sends_key_to_another_server(code_url, env_url, file_url, code_key, env_key, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "pairs.toml"
    path.unlink(missing_ok=True)
    if file_url:
        path.write_text(f'url = "{file_url}"\napi_key = "file-key"\n')
    try:
        config = discover(
            make_environ(url=env_url, key="env-key" if env_key else None),
            url=code_url,
            api_key="code-key" if code_key else None,
            path=path,
        )
    except ConfigError:
        return
    if config is None:
        assert {code_url, env_url, file_url} == {None}
        return
    assert config.url == (code_url or env_url or file_url)
    given_for = {"code-key": code_url, "env-key": env_url, "file-key": file_url}[config.api_key]
    assert given_for in (None, config.url)


# ---------------------------------------------------------------- a broken setting that is not needed


def test_complete_arguments_ignore_invalid_files(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("not toml")
    assert url_and_key(
        discover(make_environ(key_file=tmp_path / "absent"), url=CODE_VALUES, api_key="k", path=broken)
    ) == (CODE_VALUES, "k")


def test_complete_environment_ignores_invalid_config(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("not toml")
    assert url_and_key(discover(make_environ(url=ENV_VALUES, key="k"), path=broken)) == (ENV_VALUES, "k")


# ---------------------------------------------------------------- the key as a file


def test_key_is_read_from_key_file_of_environment(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("  from-file\n")
    assert read_environ_key(make_environ(key_file=secret)) == "from-file"
    assert url_and_key(discover(make_environ(url=ENV_VALUES, key_file=secret), path=tmp_path / "absent")) == (
        ENV_VALUES,
        "from-file",
    )


def test_key_variable_overrides_key_file(tmp_path):
    assert read_environ_key(make_environ(key="direct", key_file=tmp_path / "absent")) == "direct"


def test_missing_variables_give_no_key():
    assert read_environ_key({}) is None


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe\x00", "folder"], ids=repr)
def test_invalid_key_file_error_names_the_variable(tmp_path, content):
    secret = tmp_path / "secret"
    if content == "folder":
        secret.mkdir()
    elif content is not None:
        secret.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_environ_key(make_environ(key_file=secret))
    assert "PROGRESSBAR_API_KEY_FILE" in str(caught.value)
    assert str(secret) in str(caught.value)


# ---------------------------------------------------------------- reading the config file


def test_missing_config_file_is_ignored(missing_path):
    assert read_user_config(missing_path) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("url = ", "is not valid TOML"),
        ("not toml", "is not valid TOML"),
        ("", "has no url"),
        ('url = "http://h"', "has no api_key"),
        ('api_key = "k"', "has no url"),
        ('url = ""\napi_key = "k"', "has a wrong url"),
        ('url = "http://h"\napi_key = 5', "has a wrong api_key"),
        ('[server]\nurl = "http://h"\napi_key = "k"', "has no url"),
    ],
)
def test_invalid_config_file_error_has_reason(tmp_path, text, reason):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_user_config(path)
    assert f"the config file {path} {reason}" in str(caught.value)


@pytest.mark.parametrize("problem", ["folder", "parent is a file", "no permission", "not UTF-8"])
def test_unreadable_config_file_error_names_it(tmp_path, problem, monkeypatch):
    path = tmp_path / "config.toml"
    if problem == "folder":
        path.mkdir()
    elif problem == "parent is a file":
        path.write_text("")
        path = path / "config.toml"
    elif problem == "not UTF-8":
        path.write_bytes(b'url = "\xff"')
    else:  # chmod does not restrict root

        def denied(*_args, **_options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(ConfigError) as caught:
        read_user_config(path)
    assert f"the config file {path} cannot be read" in str(caught.value)


def test_further_entries_of_config_file_are_ignored(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('url = "http://h"\napi_key = "k"\ncolour = "blue"\n[x]\ny = 1\n')
    assert url_and_key(read_user_config(path)) == ("http://h", "k")


# ---------------------------------------------------------------- writing it


def test_writing_creates_parent_folders(tmp_path):
    path = tmp_path / "a" / "b" / "config.toml"
    write_user_config(path, FILE_VALUES, "k")
    assert url_and_key(read_user_config(path)) == (FILE_VALUES, "k")


@posix
def test_config_file_becomes_private_on_write(tmp_path):
    path = tmp_path / "folder" / "config.toml"
    write_user_config(path, FILE_VALUES, "k")
    path.chmod(0o644)
    write_user_config(path, FILE_VALUES, "k")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@posix
def test_config_file_is_private_from_creation(tmp_path, monkeypatch):
    modes = []
    replace = os.replace

    def watched(source, target):
        modes.append(stat.S_IMODE(Path(source).stat().st_mode))
        replace(source, target)

    monkeypatch.setattr(config_module.os, "replace", watched)
    write_user_config(tmp_path / "config.toml", FILE_VALUES, "k")
    assert modes == [0o600]


def test_failed_write_keeps_old_file_and_leaves_no_other(config_path, monkeypatch):
    before = config_path.read_bytes()

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(config_module.os, "replace", full)
    with pytest.raises(ConfigError) as caught:
        write_user_config(config_path, "http://new", "new-key")
    assert f"the config file {config_path} cannot be written" in str(caught.value)
    assert "new-key" not in str(caught.value)
    assert config_path.read_bytes() == before
    assert list(config_path.parent.iterdir()) == [config_path]


def test_failed_folder_creation_is_config_error(tmp_path):
    (tmp_path / "occupied").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_user_config(tmp_path / "occupied" / "config.toml", FILE_VALUES, "k")


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=ascii)
def test_text_round_trips(tmp_path, text):
    path = tmp_path / "config.toml"
    write_user_config(path, f"u{text}", f"k{text}")
    assert tomllib.loads(path.read_text("utf-8")) == {"url": f"u{text}", "api_key": f"k{text}"}
    assert url_and_key(read_user_config(path)) == (f"u{text}", f"k{text}")


@settings(max_examples=25)  # each writes a file
@given(url=st.text(min_size=1), key=st.text(min_size=1))
def test_any_utf_8_text_round_trips(url, key, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.toml"
    write_user_config(path, url, key)
    assert url_and_key(read_user_config(path)) == (url, key)


def test_surrogate_is_refused_without_showing_the_key(config_path):
    before = config_path.read_bytes()
    with pytest.raises(ConfigError) as caught:
        write_user_config(config_path, FILE_VALUES, "secret\ud800")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert config_path.read_bytes() == before
    assert list(config_path.parent.iterdir()) == [config_path]


# ---------------------------------------------------------------- the rest


def test_configuration_hides_its_key():
    config = Config("http://h", "very-secret", "PROGRESSBAR_URL", "PROGRESSBAR_API_KEY")
    assert "very-secret" not in f"{config!r} {config} {config!s}"
    assert "http://h" in repr(config)


@pytest.mark.parametrize("value", ["1", "true", "yes", "on", "anything", " 1 "])
def test_tracking_is_disabled_by_any_other_value(value):
    assert is_disabled({"PROGRESSBAR_DISABLE": value})


@pytest.mark.parametrize("value", ["", " ", "0", "no", "off", "false", "False", "NO", " 0 "])
def test_tracking_is_not_disabled_by_a_negative_value(value):
    assert not is_disabled({"PROGRESSBAR_DISABLE": value})


def test_tracking_is_not_disabled_by_default():
    assert not is_disabled({})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('urll = "http://server"\napi_key = "k"', "has no url, but the unknown urll"),
        ('url = 5\napi_key = "k"', "has a wrong url: it must be a text in quotes"),
        ('url = "http://server"\napi_key = 5', "has a wrong api_key: it must be a text in quotes"),
    ],
)
def test_wrong_entry_of_the_config_file_is_named(tmp_path, text, reason):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read_user_config(path)
