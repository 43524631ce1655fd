"""Run a pgbouncer in front of a PostgreSQL server of the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest

from tests.support.connections import find_free_port
from tests.support.waiting import wait_until


class Pgbouncer:
    """A pgbouncer; usable as a context manager.

    Args:
        url: A database; the pooler passes all databases of its server on.
        mode: ``session``, ``transaction`` or ``statement``.
    """

    def __init__(self, url: str, mode: str) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.skip("needs pgbouncer: install Debian's pgbouncer")
        parts = urlsplit(url)
        self._port = find_free_port()
        self.url = parts._replace(netloc=f"postgres@127.0.0.1:{self._port}").geturl()
        self._folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        users, configuration = self._folder / "users", self._folder / "pgbouncer.ini"
        users.write_text('"postgres" ""\n')
        configuration.write_text(
            f"[databases]\n* = host={parts.hostname} port={parts.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self._port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {users}\n"
            f"pool_mode = {mode}\nserver_login_retry = 1\n"
        )
        user = "postgres" if os.geteuid() == 0 else None  # pgbouncer refuses to run as root
        for path in (self._folder, users, configuration):
            if user is not None:
                shutil.chown(path, user)
        self._process = subprocess.Popen(
            [program, "-q", configuration], user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self._is_ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(60)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, "pgbouncer did not start"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
            return True
        return False
