"""The files of ``examples/deploy``, the programs that check them, and nginx with them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.connections import find_free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from typing import Self

PROJECT_ROOT = Path(__file__).parents[2]
DEPLOY_FOLDER = PROJECT_ROOT / "examples" / "deploy"


def read_deploy_file(name: str) -> str:
    return (DEPLOY_FOLDER / name).read_text("utf-8")


def find_program(name: str, package: str) -> str:
    """Return the path of a program; skip the test if it is missing."""
    # Debian installs them in folders that a user's PATH lacks.
    path = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))
    if path is None:
        pytest.skip(f"needs {name}: install {package}")
    return path


def replace_all(text: str, *pairs: tuple[str, str]) -> str:
    """Replace texts that the shipped file has to contain."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def is_listening(port: int) -> bool:
    """Return whether a process of this machine accepts connections at a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class NginxProxy:
    """A process of nginx with a shipped configuration. Usable as a context manager.

    Args:
        folder: For its files.
        text: The configuration. It listens on port 80, which is replaced by :attr:`port`.
    """

    def __init__(self, folder: Path, text: str) -> None:
        self.port = find_free_port()
        temporary = "".join(
            f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = replace_all(text, ("http {", f"http {{ {temporary}"), ("listen 80;", f"listen 127.0.0.1:{self.port};"))
        conf = folder / "nginx.conf"
        conf.write_text(text)
        nginx = find_program("nginx", "nginx-light")
        directives = f"daemon off; master_process off; pid {folder}/pid;"
        self._process = subprocess.Popen([nginx, "-p", folder, "-e", "stderr", "-c", conf, "-g", directives])
        wait_until(self._is_ready)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "nginx did not start"
        return is_listening(self.port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(60)
