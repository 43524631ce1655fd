"""The channel file: valid entries, error messages, and reloading."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
from pathlib import Path

import pytest

import progressbar_tracker
from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.notifications import channels
from progressbar_tracker.server.notifications.channels import Channels

SIGNING_KEY = bytes(range(32))
SIGNING_SECRET = "whsec_" + base64.b64encode(SIGNING_KEY).decode()
HIDDEN_TEXT = "VerySecretToken"

FULL_FILE = f"""
[channels.phone]
url = "ntfy://{HIDDEN_TEXT}"

[channels.hook]
url = "https://me:{HIDDEN_TEXT}@hooks.example.org:8443/{HIDDEN_TEXT}?t={HIDDEN_TEXT}"
secret = "{SIGNING_SECRET}"
on = ["failed", "50%", "25%"]
groups = ["nightly"]
allow_private = true

[channels."all.of-it_1"]
url = "http://10.0.0.1/"
all = true
"""


@pytest.fixture
def channels_path(tmp_path: Path) -> Path:
    """The path of a channels file that does not exist yet."""
    return tmp_path / "channels.toml"


def write_channels(path: Path, text: str) -> Channels:
    path.write_text(text)
    return Channels(path)


def get_error(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        write_channels(path, text)
    message = str(error.value)
    assert "\n" not in message
    assert HIDDEN_TEXT not in message
    return message.removeprefix(str(path))


def test_missing_setting_means_no_channels() -> None:
    channels = Channels(None)
    assert (channels.has_channels, channels.has_wildcard, channels.percents, channels.all()) == (False, False, (), [])
    assert not channels.refresh()


def test_full_file_defines_destinations_and_events(channels_path: Path) -> None:
    channels = write_channels(channels_path, FULL_FILE)
    everything, hook, phone = channels.all()
    assert (phone.kind, phone.destination, phone.events) == (
        "apprise",
        "ntfy",
        ["succeeded", "failed", "stalled", "stuck", "late", "missed"],
    )
    assert (hook.kind, hook.destination, hook.events) == ("webhook", "hooks.example.org:8443", ["failed", "25%", "50%"])
    assert (hook.secret, hook.groups, hook.allow_private) == (SIGNING_KEY, {"nightly"}, True)
    assert (everything.name, everything.all, everything.allow_private) == ("all.of-it_1", True, False)
    assert (channels.has_channels, channels.has_wildcard, channels.percents) == (True, True, (25, 50))


def test_repr_of_channels_contains_no_secret(channels_path: Path) -> None:
    channels = write_channels(channels_path, FULL_FILE)
    text = repr(channels) + repr(channels.all()) + str([channel.destination for channel in channels.all()])
    assert HIDDEN_TEXT not in text
    assert SIGNING_SECRET[6:] not in text
    assert repr(SIGNING_KEY) not in text


def test_secrets_can_be_in_separate_files(channels_path: Path) -> None:
    (channels_path.parent / "url").write_text(f"https://hooks.example.org/{HIDDEN_TEXT}\n")
    (channels_path.parent / "secret").write_text(f"{SIGNING_SECRET}\n")
    channels = write_channels(channels_path, '[channels.hook]\nurl_file = "url"\nsecret_file = "secret"\n')
    hook = channels.get("hook")
    assert hook is not None
    assert (hook.url, hook.secret) == (f"https://hooks.example.org/{HIDDEN_TEXT}", SIGNING_KEY)


def test_kind_overrides_the_scheme(channels_path: Path) -> None:
    channels = write_channels(
        channels_path, '[channels.slack]\nurl = "https://hooks.slack.com/services/A/B/C"\nkind = "apprise"\n'
    )
    slack = channels.get("slack")
    assert slack is not None
    assert (slack.kind, slack.destination) == ("apprise", "https")


def test_chat_service_has_its_address_and_limits_by_default(channels_path: Path) -> None:
    (channels_path.parent / "token").write_text(f"xoxb-{HIDDEN_TEXT}\n")
    channels = write_channels(channels_path, '[channels.x]\nkind = "slack"\ntoken_file = "token"\nto = "#progress"\n')
    (channel,) = channels.kept
    assert (channel.url, channel.token, channel.to) == ("https://slack.com/api", f"xoxb-{HIDDEN_TEXT}", "#progress")
    assert (channel.edit_seconds, channel.edits_per_minute, channel.max_runs) == (10, 40, 20)
    assert HIDDEN_TEXT not in repr(channels) + repr(channel) + channel.destination


HOOK_CHANNEL = '[channels.x]\n\nurl = "https://h.example/"\n'

SLACK_CHANNEL = f'[channels.x]\nkind = "slack"\ntoken = "xoxb-{HIDDEN_TEXT}"\nto = "#a"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HOOK_CHANNEL + "secert = 1\n", " line 4: channels.x: unknown field 'secert'; there are url, url_file, kind, "),
        (HOOK_CHANNEL + 'on = ["done"]\n', " line 4: channels.x: unknown event 'done'; there are succeeded, failed, "),
        (HOOK_CHANNEL + 'on = ["0%"]\n', " line 4: channels.x: unknown event '0%'"),
        (HOOK_CHANNEL + 'on = ["100%"]\n', " line 4: channels.x: unknown event '100%'"),
        (HOOK_CHANNEL + 'on = "failed"\n', " line 4: channels.x: on must be a list of texts"),
        (HOOK_CHANNEL + "groups = [1]\n", " line 4: channels.x: groups must be a list of texts"),
        (HOOK_CHANNEL + 'groups = [""]\n', " line 4: channels.x: groups must be names of 1 to 200 characters"),
        (HOOK_CHANNEL + 'all = "yes"\n', " line 4: channels.x: all must be true or false"),
        (HOOK_CHANNEL + 'kind = "fax"\n', " line 4: channels.x: kind must be one of webhook, apprise, ntfy, "),
        (
            HOOK_CHANNEL + f'secret = "{HIDDEN_TEXT}"\n',
            " line 4: channels.x: secret must be whsec_ and 24 to 64 bytes in base64",
        ),
        (HOOK_CHANNEL + 'secret = "whsec_QUJD"\n', " line 4: channels.x: secret must be whsec_"),
        (HOOK_CHANNEL + 'url_file = "f"\n', " line 3: channels.x: url and url_file are both there: keep one"),
        (
            HOOK_CHANNEL + f'secret_file = "missing"\nall = {HIDDEN_TEXT}',
            " is no TOML: Invalid value (at line 5, column 7)",
        ),
        ('[channels.x]\nsecret = "whsec_"\n', " line 1: channels.x: url or url_file is missing"),
        (f'[channels.x]\nurl = "{HIDDEN_TEXT}"\n', " line 2: channels.x: url is not an address such as "),
        (f'[channels.x]\nurl = "https:///{HIDDEN_TEXT}"\n', " line 2: channels.x: the url of a webhook must be "),
        (f'[channels.x]\nurl = "http://[{HIDDEN_TEXT}"\n', " line 2: channels.x: the url of a webhook must be "),
        ('[channels.x]\nurl = "ntfy://t"\nallow_private = true', " line 3: channels.x: allow_private is for webhooks"),
        ('[channels."a b"]\nurl = "ntfy://t"\n', " line 1: 'a b' is not a valid channel name"),
        ('[channels.".."]\nurl = "ntfy://t"\n', " line 1: '..' is not a valid channel name"),
        ("[chanels.x]\n", ": there is 'chanels', and not a table [channels.NAME]"),
        ("channels = 3\n", " line 1: there is 'channels', and not a table [channels.NAME]"),
        ("[channels]\nx = 3\n", " line 2: channels.x: must be a table [channels.x]"),
        (f'[channels.x]\nurl = "{HIDDEN_TEXT}\n', " is no TOML: Illegal character "),
        ("\n".join(f'[channels.c{n}]\nurl = "ntfy://t"' for n in range(101)), " has 101 channels; 100 are the most"),
        (HOOK_CHANNEL + 'to = "#a"\n', " line 4: channels.x: to is for the kinds ntfy, slack, discord, telegram"),
        (
            SLACK_CHANNEL + f'secret = "{HIDDEN_TEXT}"\n',
            " line 5: channels.x: secret is for webhooks only",
        ),
        ('[channels.x]\nkind = "slack"\nto = "#a"\n', " line 1: channels.x: token is missing"),
        ('[channels.x]\nkind = "telegram"\ntoken = "1:a"\n', " line 1: channels.x: to is missing"),
        ('[channels.x]\nkind = "discord"\n', " line 1: channels.x: url or url_file is missing"),
        ('[channels.x]\nkind = "ntfy"\nurl = "https://ntfy.sh"\n', " line 3: channels.x: the url has no path"),
        ('[channels.x]\nkind = "ntfy"\nurl = "ntfy://topic"\n', " line 3: channels.x: the url of a ntfy must be "),
        (SLACK_CHANNEL.replace("xoxb-", "a\\n"), " line 3: channels.x: token must be a text of letters, digits and "),
        (SLACK_CHANNEL + "edit_seconds = 4\n", " line 5: channels.x: edit_seconds must be a whole number from 5 to 8"),
        (SLACK_CHANNEL + "edits_per_minute = true\n", " line 5: channels.x: edits_per_minute must be a whole number "),
        (SLACK_CHANNEL + "max_runs = 101\n", " line 5: channels.x: max_runs must be a whole number from 1 to 100"),
    ],
)
def test_config_error_names_line_and_no_secret(channels_path: Path, text: str, message: str) -> None:
    assert get_error(channels_path, text).startswith(message)


@pytest.mark.parametrize("value", ["[]", '["a"]', "{}", "3", "true", "nan", "1979-05-27", '""', '"\\u0000"'])
@pytest.mark.parametrize("field", channels._CHANNEL_FIELDS)
def test_value_of_another_type_is_a_config_error(channels_path: Path, field: str, value: str) -> None:
    entry = {"kind": '"slack"', "token": '"xoxb-1"', "to": '"#a"', field: value}
    channels_path.write_text("\n".join(["[channels.x]", *(f"{name} = {text}" for name, text in entry.items())]))
    with contextlib.suppress(ConfigError):  # any other error would end the server
        Channels(channels_path)


def test_missing_channel_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        Channels(tmp_path / "none.toml")


def test_missing_secret_file_is_named(channels_path: Path) -> None:
    message = get_error(channels_path, HOOK_CHANNEL + 'secret_file = "missing"\n')
    assert message.startswith(" line 4: secret_file ")
    assert message.endswith("missing cannot be read: No such file or directory")


def test_missing_apprise_error_names_the_package(channels_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = get_error(channels_path, '[channels.x]\nurl = "ntfy://t"\n')
    assert "this kind needs the apprise package: pip install apprise" in message


def test_changed_channel_file_is_reloaded(channels_path: Path) -> None:
    channels = write_channels(channels_path, HOOK_CHANNEL)
    assert not channels.refresh()
    channels_path.write_text(FULL_FILE)
    assert channels.refresh()
    assert channels.get("phone") is not None
    assert channels.get("x") is None
    assert not channels.refresh()


def test_changed_secret_file_is_reloaded(channels_path: Path) -> None:
    address = channels_path.parent / "url"
    address.write_text("ntfy://one")
    channels = write_channels(channels_path, '[channels.x]\nurl_file = "url"\n')
    address.write_text("ntfy://another")
    assert channels.refresh()
    x = channels.get("x")
    assert x is not None
    assert x.url == "ntfy://another"


def test_invalid_channel_file_is_logged_once_and_ignored(channels_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    channels = write_channels(channels_path, HOOK_CHANNEL)
    channels_path.write_text(HOOK_CHANNEL + f'secret = "{HIDDEN_TEXT}"\n')
    with caplog.at_level(logging.WARNING):
        assert not channels.refresh()
        assert not channels.refresh()
    (line,) = caplog.messages
    assert line.startswith(f"the channels stay as they were: {channels_path} line 4: channels.x: secret must be")
    assert HIDDEN_TEXT not in caplog.text
    assert channels.get("x") is not None
    channels_path.write_text(FULL_FILE)
    assert channels.refresh()


def test_deleted_channel_file_changes_nothing(channels_path: Path) -> None:
    channels = write_channels(channels_path, HOOK_CHANNEL)
    channels_path.unlink()
    assert not channels.refresh()
    assert channels.get("x") is not None
    channels_path.write_text(FULL_FILE)
    assert channels.refresh()


def test_secret_file_that_appears_later_is_read(channels_path: Path) -> None:
    channels = write_channels(channels_path, HOOK_CHANNEL)
    channels_path.write_text('[channels.y]\nurl_file = "url"\n')
    assert not channels.refresh()
    (channels_path.parent / "url").write_text("ntfy://t")
    assert channels.refresh()
    assert channels.get("y") is not None


def test_channel_file_of_the_handbook_is_valid(tmp_path: Path) -> None:
    page = (Path(progressbar_tracker.__file__).parent / "handbook/how-to/notifications.md").read_text("utf-8")
    (text,) = re.findall(r"```toml file=channels.toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "team.secret").write_text(SIGNING_SECRET)
    phone, team = write_channels(tmp_path / "channels.toml", text).all()
    assert (phone.name, phone.kind, phone.events) == (
        "phone",
        "apprise",
        ["succeeded", "failed", "stalled", "stuck", "late", "missed"],
    )
    assert (team.kind, team.secret, team.events) == ("webhook", SIGNING_KEY, ["failed", "stopped", "late", "50%"])
