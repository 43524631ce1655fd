"""The configurations of agents in the handbook have the documented fields of their clients, and start our command."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

import progressbar_tracker
from progressbar_tracker.cli import commands

HANDBOOK_PAGE = Path(progressbar_tracker.__file__).parent / "handbook/how-to/agents.md"
CODE_BLOCKS = re.findall(r"^```(json|toml)\n(.*?)^```$", HANDBOOK_PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
SHOWN_DOCUMENTS = [json.loads(text) if kind == "json" else tomllib.loads(text) for kind, text in CODE_BLOCKS]

# The table of the servers, and the fields of one that is started by a command, by client.
CLIENT_FIELDS = {
    "Claude Code": ("mcpServers", {"type", "command", "args", "env"}),
    "Codex": (
        "mcp_servers",
        {"command", "args", "env", "env_vars", "cwd", "enabled", "startup_timeout_sec", "tool_timeout_sec"},
    ),
    "VS Code": ("servers", {"type", "command", "args", "env", "envFile"}),
}
INPUT_FIELDS = {"id", "type", "description", "default", "password"}


@pytest.mark.parametrize("client", CLIENT_FIELDS)
def test_configuration_of_a_client_has_its_documented_fields(client):
    table, fields = CLIENT_FIELDS[client]
    (document,) = (document for document in SHOWN_DOCUMENTS if table in document)
    (server,) = document[table].values()
    assert server.keys() <= fields
    assert server.get("type", "stdio") == "stdio"
    assert (server["command"], server["args"][0] in commands.commands) == ("progressbar-tracker", True)
    inputs = {each["id"]: each for each in document.get("inputs", [])}
    assert all(each.keys() <= INPUT_FIELDS and each["type"] == "promptString" for each in inputs.values())
    named = {name for text in server["env"].values() for name in re.findall(r"\$\{input:([^}]+)\}", text)}
    assert named == inputs.keys()
    assert {name for name in server["env"] if not name.startswith("PROGRESSBAR_")} == set()


def test_each_configuration_of_the_page_is_checked():
    assert len(SHOWN_DOCUMENTS) == len(CLIENT_FIELDS)
