"""jupyter-server-proxy: a tile in JupyterLab that starts the server and opens its pages.

The package finds this module through its entry point. The server belongs to the user of the notebook server: it keeps
its database in the user's data folder, and ``track()`` in notebooks reports to it. Its pages ask for a key once; the
user's config file has one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TypedDict

    class LauncherEntry(TypedDict):
        """The tile."""

        title: str

    class ProxiedServer(TypedDict):
        """The settings that jupyter-server-proxy reads."""

        command: list[str]
        timeout: float
        absolute_url: bool
        new_browser_tab: bool
        request_headers_override: dict[str, str]
        launcher_entry: LauncherEntry


SERVER_NAME: Final = "progressbar-tracker"
"""The name of the entry point, and the path of the server below that of the notebook server."""

START_TIMEOUT: Final = 30.0  # seconds


def describe_server() -> ProxiedServer:
    """Return the settings of the server for jupyter-server-proxy, which replaces the names in braces.

    Source: https://jupyter-server-proxy.readthedocs.io, "Server Process options".

    Example:
        >>> describe_server()["launcher_entry"]
        {'title': 'Progress'}
    """
    return {
        "command": [
            sys.executable, "-m", "progressbar_tracker", "serve",
            "--host", "127.0.0.1", "--port", "{port}", "--base-path", f"{{base_url}}{SERVER_NAME}",
        ],
        "timeout": START_TIMEOUT,
        "absolute_url": True,  # the links of the pages contain the path of the notebook server
        "new_browser_tab": True,
        # The notebook server has checked the host name. Other names would be refused on a loopback address.
        "request_headers_override": {"Host": "127.0.0.1:{port}"},
        "launcher_entry": {"title": "Progress"},
    }  # fmt: skip
