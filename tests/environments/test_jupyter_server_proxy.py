"""The entry point for jupyter-server-proxy. A tile was tried with its version 4.6.0, for another host name."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import entry_points

import httpx

from progressbar_tracker.integrations.jupyter_server_proxy import SERVER_NAME, describe_server


def test_entry_point_returns_the_settings():
    (entry,) = entry_points(group="jupyter_serverproxy_servers", name=SERVER_NAME)
    assert entry.load()() == describe_server()


def test_server_answers_below_the_path_of_the_notebook_server(tmp_path, monkeypatch):
    monkeypatch.setenv("PROGRESSBAR_DATABASE", str(tmp_path / "progress.db"))
    settings = describe_server()
    fields = {"port": "0", "base_url": "/user/me/"}
    with subprocess.Popen(
        [part.format(**fields) for part in settings["command"]], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            port = next(
                match[1] for line in process.stdout if (match := re.search(r"on http://127.0.0.1:(\d+)/", line))
            )
            headers = {name: text.format(port=port) for name, text in settings["request_headers_override"].items()}
            page = httpx.get(f"http://127.0.0.1:{port}/user/me/{SERVER_NAME}/login", headers=headers, timeout=30)
        finally:
            process.kill()
    assert page.status_code == 200
    assert "Sign in" in page.text
