"""The page of the configuration of programs and channels, from the readers of the package."""

from __future__ import annotations

from typing import Final

from progressbar_tracker import _config
from progressbar_tracker.server.notifications import channels

from .markdown import render_table

CLIENT_VARIABLES: Final = {
    _config.URL_VARIABLE: "The base URL of the server, such as `http://server:8989`.",
    _config.API_KEY_VARIABLE: "The key.",
    _config.API_KEY_FILE_VARIABLE: "A file with the key. It may be replaced while a program runs.",
    _config.DISABLE_VARIABLE: "`1` turns `track()` into the plain loop.",
    _config.CONFIG_VARIABLE: "A config file in place of the user's.",
    _config.PARENT_VARIABLE: "The parent of the bars of this process; `exec` and `run --job` set it.",
    _config.PRINT_GUARD_VARIABLE: "`0`: lines that the program prints are not kept apart from the terminal bar.",
    _config.TASKBAR_VARIABLE: "`0`: no progress in the tab or the taskbar of the terminal.",
    _config.ENVIRONMENT_VARIABLE: "`0`: batch systems, Kubernetes, CI services and systemd are ignored.",
    _config.STOPPABLE_VARIABLE: "`1`: outermost loops can be stopped; `run --stoppable` sets it.",
    _config.MASK_VARIABLE: "A regular expression, whose matches in output tails are masked, too.",
    _config.REPORTER_VARIABLE: "Commands such as `run` set it for their programs, so that a failure is printed once.",
}
OTHER_VARIABLES: Final = {
    "http_proxy, https_proxy, all_proxy, no_proxy": "Proxies, as in curl. `no_proxy` has names, networks and ports. "
    "This machine is never reached through a proxy.",
    "SSL_CERT_FILE, SSL_CERT_DIR": "Certificates in place of the system's.",
    "TQDM_DISABLE": "`1` turns the terminal bar off, unless `display=True`.",
    "TQDM_ASCII, TQDM_NCOLS": "The characters and the width of the terminal bar, as for tqdm.",
    "NO_COLOR": "The command line prints no colours.",
}
CHANNEL_FIELDS: Final = {
    "url": "The destination. `http` and `https` are webhooks; any other scheme is an address of Apprise.",
    "url_file": "A file with the URL, relative to this file.",
    "kind": "`webhook` or `apprise`, if the URL does not decide it; or `ntfy`, `slack`, `discord`, `telegram`, whose "
    "messages are [edited](../how-to/live-messages.md).",
    "secret": "Signs webhooks: `whsec_` and 24 to 64 bytes in base64.",
    "secret_file": "A file with the secret.",
    "on": "The events: {events}, and `1%` to `99%`. By default {defaults}.",
    "groups": "Groups whose items notify the channel without naming it.",
    "all": "`true`: all items notify the channel.",
    "allow_private": "`true`: the webhook may have an address of this machine or of a private network.",
    "tail": "`true`: messages contain the last lines of the output of the run.",
    "token": "The token of `slack`, `telegram` or `ntfy`.",
    "token_file": "A file with the token.",
    "to": "The room of `slack` or `telegram`.",
    "edit_seconds": "The shortest time between two edits of a message: {least} to {most}.",
    "edits_per_minute": "The most requests to the service in any minute: 1 to {edits}.",
    "max_runs": "The most running items whose messages are edited at a time: 1 to {runs}.",
}

PAGE_HEAD: Final = """\
# Configuration

A program finds its server and key without a line of code: from `configure()`, the environment or the config file, in
this order. A URL is combined only with a key of the same source, or with one that is configured for the same URL.

## Variables of programs

{variables}

Programs and libraries follow these variables, too:

{others}

## The config file

`progressbar-tracker serve` writes the file for the user of its machine, and `progressbar-tracker login URL` for any
server. It is `config.toml` in the user's config folder: `~/.config/progressbar-tracker/` on Linux. Only its owner may
read it.

```toml
url = "http://server:8989"
api_key = "your-api-key"
```

The file may be replaced while a program runs: the next report uses it.

## Notification channels

`serve --channels FILE` reads the destinations of notifications. A change of the file takes effect at once. An invalid
file is logged, and the former channels stay.

```toml file=channels.toml
[channels.phone]
url = "ntfy://my-secret-topic"

[channels.team]
url = "https://hooks.example.org/progress"
secret_file = "team.secret"
groups = ["nightly"]
on = ["failed", "stopped", "late", "50%"]
```

Each table `[channels.NAME]` is one channel. `track(notify="NAME")` and `--notify NAME` use it. A name has letters,
digits, `.`, `_` and `-`, at most {name_length} characters. A file has at most {max_channels} channels.

{fields}

`/channels` shows the deliveries of each channel to administrators, and sends test messages.
"""


def render_page() -> str:
    assert set(CHANNEL_FIELDS) == set(channels._CHANNEL_FIELDS)
    names = {name: [each for each in channels.EVENT_NAMES if each in channels.DEFAULT_EVENTS] for name in ("defaults",)}
    events = _list_code(channels.EVENT_NAMES)
    rows = [
        (
            f"`{name}`",
            text.format(
                events=events,
                defaults=_list_code(names["defaults"]),
                least=channels.MIN_EDIT_SECONDS,
                most=channels.MAX_EDIT_SECONDS,
                edits=channels.MAX_EDITS_PER_MINUTE,
                runs=channels.MAX_KEPT_RUNS,
            ),
        )
        for name, text in CHANNEL_FIELDS.items()
    ]
    return PAGE_HEAD.format(
        variables=_render_variables(CLIENT_VARIABLES),
        others=_render_variables(OTHER_VARIABLES),
        fields=render_table(("Field", "Meaning"), rows),
        name_length=channels.MAX_NOTIFY_LENGTH,
        max_channels=channels.MAX_CHANNELS,
    )


def _render_variables(variables: dict[str, str]) -> str:
    rows = [(_list_code(names.split(", ")), text) for names, text in variables.items()]
    return render_table(("Variable", "Meaning"), rows)


def _list_code(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
