"""The page of the server's settings: their variables, options, defaults and meanings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import click
import griffe

from progressbar_tracker import cli
from progressbar_tracker.server.settings import DAY_SECONDS, RetentionPolicy, Settings

from .markdown import render_table
from .python import convert_text, load_package

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_HEAD: Final = """\
# Server settings

This page lists the settings of `progressbar-tracker serve`. Each one is an environment variable, and most are options
too. An option overrides its variable, which is then not read. A wrong value ends the start with one line that names it.

| Kind of value | Examples |
| --- | --- |
| period | `90s`, `1h30m`, `30d`, `1y`, `forever` |
| period by end status | `1d`; `succeeded=1h,failed=7d`; `90d,failed=1y` |
| switch | `1`, `true`, `yes`, `on`; `0`, `false`, `no`, `off` |

"""
SETTING_GROUPS: Final = (
    ("Address", ("host", "port", "base_path", "public_url", "allowed_hosts", "trusted_proxies")),
    ("Storage", ("database", "keep", "history", "credential_age")),
    ("Access", ("admin_username", "admin_password", "admin_key", "local_key", "public_read")),
    ("Items", ("give_up", "stall_after", "stuck", "channels", "push_origins")),
    ("Limits", ("max_items", "max_requests", "max_unread")),
    ("Operation", ("drain", "monitor_url", "log_format", "log_level", "access_log", "metrics_items")),
)
INTERNAL_SETTINGS: Final = frozenset({"session_seconds", "sign_in_seconds"})
"""Settings without a variable."""

SECRET_FILES: Final = ("admin_password", "admin_key", "database", "monitor_url")
"""Settings that a file may hold: the variable with the suffix ``_FILE`` names it."""

DEFAULT_TEXTS: Final = {
    "database": "`progress.db` in the user's data folder",
    "allowed_hosts": "none on a loopback address, otherwise any",
    "log_level": "`warning`; `info` with `json`",
    "admin_key": "made at the first start, and shown once",
    "admin_username": "none: the server prints a one-time link",
}
"""Defaults that a value does not show."""

SETTING_NOTES: Final = {
    "port": "A value such as `tcp://10.0.0.7:8989`, which Kubernetes sets for a service, is ignored.",
    "database": "The disk of an SQLite file has to be local.",
    "public_url": "Its host is an allowed one.",
    "allowed_hosts": "Names such as `*.example.org`, besides those of loopback and of the public URL; `*` for any.",
    "trusted_proxies": "Addresses, networks, or `loopback`, separated by commas.",
    "credential_age": "After it, requests get 503. A period.",
    "drain": "For servers behind a balancer with health checks. Seconds, or a period; an hour at most.",
    "monitor_url": "[Monitoring](../how-to/monitoring.md#a-monitor-that-notices-silence) names its addresses.",
    "admin_username": "An account for the pages, besides signing in with a key.",
    "admin_password": "A change ends all sessions that began with a password or a link.",
    "admin_key": "A revoked, replaced or expired key stays invalid. Make one with `openssl rand -hex 24`.",
    "keep": "A period by end status.",
    "history": "A period by end status.",
    "give_up": "A period.",
    "stall_after": "Seconds, or a period.",
    "stuck": "With `off`, no item is stuck, whatever its `stuck_after`.",
    "channels": "[Configuration](configuration.md#notification-channels) describes the file.",
    "push_origins": "Such as `https://push.lan:8443`, separated by commas or spaces.",
    "log_format": "`text` writes lines from `warning` on. `json` writes a line for each change of state as well.",
    "log_level": "`debug`, `info`, `warning` or `error`.",
    "access_log": "A line for each request, with its `X-Request-ID`.",
    "metrics_items": "They are in [`progressbar_item_progress`](metrics.md#all-metrics).",
}
"""Facts in addition to the docstring of the setting."""


def render_page() -> str:
    parts = [PAGE_HEAD]
    for title, names in SETTING_GROUPS:
        rows = [(_name_setting(name), _format_default(name), _describe_setting(name)) for name in names]
        parts.append(f"## {title}\n\n" + render_table(("Variable and option", "Default", "Meaning"), rows) + "\n")
    grouped = {name for _, names in SETTING_GROUPS for name in names}
    assert grouped | INTERNAL_SETTINGS == set(Settings.__struct_fields__), "a setting is missing"
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def _name_setting(name: str) -> str:
    variable = name.upper() if name in ("admin_username", "admin_password") else f"PROGRESSBAR_{name.upper()}"
    names = [variable, f"{variable}_FILE"] if name in SECRET_FILES else [variable]
    return ", ".join(f"`{each}`" for each in (*names, *_find_options(name)))


def _find_options(name: str) -> Iterator[str]:
    for option in cli.commands.commands["serve"].params:
        if isinstance(option, click.Option) and option.name == name:
            yield option.opts[0]


def _format_default(name: str) -> str:
    if name in DEFAULT_TEXTS:
        return DEFAULT_TEXTS[name]
    fields = Settings.__struct_fields__
    value = Settings.__struct_defaults__[fields.index(name) - len(fields)]
    if value is None or value == "":
        return "none"
    if isinstance(value, RetentionPolicy):
        value = value.default
        return "`forever`" if value == math.inf else f"`{value / DAY_SECONDS:g}d`"
    if isinstance(value, bool):
        return f"`{int(value)}`"
    if isinstance(value, float):
        return "`forever`" if value == math.inf else f"`{value:g}s`"
    return f"`{value}`"


def _describe_setting(name: str) -> str:
    settings = load_package()["server.settings.Settings"]
    for section in settings.docstring.parse("google", warnings=False):
        if isinstance(section, griffe.DocstringSectionAttributes):
            described = {each.name: each.description for each in section.value}
    text = described[name].split("; see")[0].split('; ``""``')[0].replace('"/p"', "/p")
    text = "The password for it." if name == "admin_password" else convert_text(text)
    return f"{text} {SETTING_NOTES.get(name, '')}".strip()
