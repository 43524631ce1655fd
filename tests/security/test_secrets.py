"""No secret leaks into a database, a backup, a log, a process list, a response or a traceback."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

import httpx
import pytest

from progressbar_tracker.server.access.keys import Keyring
from progressbar_tracker.server.access.tokens import Tokens
from progressbar_tracker.server.routes import ROUTES
from tests.support.clock import ManualClock
from tests.support.connections import TLS_CONTEXT
from tests.support.server import RunningServer
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from progressbar_tracker.server.http.route import Route

ADMIN_PASSWORD: Final = 'pass wörd/+&"quoted"'
ADMIN_KEY: Final = "imported-from-a-file/+=imported"
DATABASE_PASSWORD: Final = "of-the-database"


class ServerProcess:
    """``serve`` as a process that logs everything, with its output in files."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder = folder
        self.out, self.err = folder / "stdout", folder / "stderr"
        environ = {
            **{name: text for name, text in os.environ.items() if not name.startswith(("PROGRESSBAR_", "ADMIN_"))},
            "PROGRESSBAR_CONFIG": str(folder / "config.toml"),
            "PROGRESSBAR_PORT": "0",
            "PROGRESSBAR_LOG_FORMAT": "json",
            "PROGRESSBAR_LOG_LEVEL": "debug",
            "PROGRESSBAR_ACCESS_LOG": "1",
            **environ,
        }
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-m", "progressbar_tracker", "serve"]
            self.process = subprocess.Popen(command, env=environ, stdout=out, stderr=err)
        wait_until(lambda: "Serving on " in self.out.read_text() or self.process.poll() is not None)
        assert self.process.poll() is None, self.err.read_text()
        self.url = re.findall(r"Serving on (\S+) ", self.out.read_text())[0]

    def visible_text(self) -> bytes:
        """Return the output, the logs, and the process information in ``/proc``."""
        proc = Path(f"/proc/{self.process.pid}")
        info = b"".join((proc / name).read_bytes() for name in ("cmdline", "environ", "comm")) if proc.exists() else b""
        return info + self.out.read_bytes() + self.err.read_bytes()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def encode_secret(secret: str) -> Iterator[bytes]:
    """Yield the bytes of a secret in plain text and in each encoding."""
    raw = secret.encode()
    yield from (raw, quote(secret, safe="").encode(), quote_plus(secret).encode(), raw.hex().encode())
    yield from (json.dumps(secret)[1:-1].encode(), repr(secret)[1:-1].encode())
    for shift in range(3):
        # Base64 depends on the offset modulo 3; the ends depend on the neighbours.
        encoded = base64.b64encode(b"\0" * shift + raw)[4:-4]
        yield from (encoded, encoded.translate(bytes.maketrans(b"+/", b"-_")))


def find_leaks(data: bytes, secrets: dict[str, str]) -> set[str]:
    return {name for name, secret in secrets.items() if any(form in data for form in encode_secret(secret))}


def use_secrets(url: str, admin: str, cookie: str, routes: Iterable[Route] = ROUTES) -> tuple[dict[str, str], bytes]:
    """Create secrets of all kinds and send them to every route, in every header; return them and all responses."""
    secrets = {"an unknown key": "pbt_a_unknown1_" + "u" * 43, "a guessed token": "guessed-token-guessed-token"}
    with httpx.Client(base_url=url, verify=TLS_CONTEXT, timeout=60) as http:
        admin_headers = {"X-API-KEY": admin}

        def post(path: str, **body: str) -> dict[str, str]:
            document: dict[str, str] = http.post(path, json=body, headers=admin_headers).raise_for_status().json()
            return document

        key = post("/api/v1/keys", type="write", name="ci")
        secrets["a key"], secrets["its next"] = key["key"], post(f"/api/v1/keys/{key['key_id']}/rotate")["key"]
        share = post("/api/v1/shares", group="g")
        secrets["a share"] = share["token"]
        http.put("/api/v1/items/a", json={"group": "g"}, headers={"X-API-KEY": secrets["a key"]}).raise_for_status()
        signed_in = http.post("/login", data={"key": secrets["a key"]})
        ((cookie_name, secrets["a cookie"]),) = signed_in.cookies.items()
        http.cookies.clear()
        secrets["another cookie"] = cookie
        responses = b""
        next_secret = cycle(secrets.values())
        for row in routes:
            for name, prefix in (("X-API-KEY", ""), ("Authorization", "Bearer "), ("Cookie", f"{cookie_name}=")):
                secret, text = next(next_secret), quote(next(next_secret), safe="")
                path = re.sub(r"\{.*?\}", text if "{token}" in row.path else "nothing", row.path)
                query = "" if row.is_page else f"?key={text}&token={text}"
                with http.stream(row.method, path + query, headers={name: prefix + secret}) as reply:
                    is_stream = reply.headers.get("Content-Type", "").startswith("text/event-stream")
                    responses += b"" if is_stream else reply.read().replace(f'"{text}/events"'.encode(), b"")
                if "Set-Cookie" not in reply.headers:
                    responses += repr(reply.headers.raw).encode()
        http.post("/login", data={"username": "admin", "password": ADMIN_PASSWORD + "wrong"})
        http.post("/login", data={"username": ADMIN_PASSWORD, "password": "wrong"})
    return secrets, responses


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[ServerProcess]]:
    """Server processes that are stopped at the end."""
    started: list[ServerProcess] = []
    yield started
    for process in started:
        process.stop()


def test_sqlite_server_leaks_no_secret(processes: list[ServerProcess], tmp_path: Path) -> None:
    """The first start prints an admin key and a sign-in link once, and writes a key to the configuration file."""
    hook, signing_key = "token-in-the-path-of-a-webhook", base64.b64encode(b"what-a-webhook-is-signed-with").decode()
    (tmp_path / "channels.toml").write_text(
        f'[channels.hook]\nurl = "http://user:{hook}@127.0.0.1:1/{hook}?{hook}"\nsecret = "whsec_{signing_key}"\n'
        "allow_private = true\nall = true\n"
    )
    served = ServerProcess(
        tmp_path,
        PROGRESSBAR_DATABASE=str(tmp_path / "progress.db"),
        PROGRESSBAR_CHANNELS=str(tmp_path / "channels.toml"),
    )
    processes.append(served)
    out = served.out.read_text()
    (admin,) = re.findall(r"pbt_a_\w{8}_[\w-]{43}", out)
    (link,) = re.findall(r"/auth/([\w-]{43})\b", out)
    config = (tmp_path / "config.toml").read_text()
    (local,) = re.findall(r"pbt_w_\w{8}_[\w-]{43}", config)
    signed_in = httpx.get(f"{served.url}/auth/{link}", verify=TLS_CONTEXT)
    secrets, responses = use_secrets(served.url, admin, next(iter(signed_in.cookies.values())))
    secrets |= {"a webhook": hook, "its signature's": signing_key}
    with httpx.Client(base_url=served.url, headers={"X-API-KEY": admin}, verify=TLS_CONTEXT, timeout=60) as http:
        delivery = http.post("/api/v1/channels/hook/test").raise_for_status()
        assert delivery.json()["delivered"] is False
        http.put("/api/v1/items/failed", json={"status": "failed"}).raise_for_status()
        responses += b"".join(http.get(path).read() for path in ("/channels", "/api/v1/channels", "/metrics"))
        responses += delivery.content
    assert find_leaks(responses, secrets | {"the admin's": admin, "the link": link, "the user's": local}) == set()

    (tmp_path / "copy").mkdir()
    backup = [sys.executable, "-m", "progressbar_tracker", "backup", str(tmp_path / "copy" / "progress.db")]
    environ = {**os.environ, "PROGRESSBAR_DATABASE": str(tmp_path / "progress.db")}
    subprocess.run(backup, check=True, capture_output=True, timeout=60, env=environ)
    dump = b""
    for path in (tmp_path / "progress.db", tmp_path / "copy" / "progress.db"):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            dump += "\n".join(connection.iterdump()).encode()
    files = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and path.name not in {"config.toml", "channels.toml", "stdout"}
    ]
    assert {"progress.db", "progress.db-wal", "stderr"} <= {path.name for path in files}
    stored = dump + b"".join(path.read_bytes() for path in files)
    # Only the output has the secrets of the first start, once each.
    assert find_leaks(stored, secrets | {"the admin's": admin, "the link": link, "the user's": local}) == set()
    visible = served.visible_text()
    assert find_leaks(visible.replace(admin.encode(), b"", 1).replace(link.encode(), b"", 1), secrets) == set()
    assert visible.count(admin.encode()) == visible.count(link.encode()) == 1
    served.stop()
    assert find_leaks(served.visible_text().replace(admin.encode(), b"", 1), secrets | {"the admin's": admin}) == set()
    assert b'"/s/{token}"' in served.visible_text()  # the access log was searched, too
    for path in tmp_path.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.name in {"copy", "stdout", "stderr", "channels.toml"}, path


def test_postgres_server_with_secret_files_leaks_no_secret(
    processes: list[ServerProcess], tmp_path: Path, postgres_url: str
) -> None:
    import psycopg

    (tmp_path / "password").write_text(ADMIN_PASSWORD)
    (tmp_path / "key").write_text(ADMIN_KEY)
    (tmp_path / "server").mkdir()
    served = ServerProcess(
        tmp_path / "server",
        PROGRESSBAR_DATABASE=postgres_url,
        PROGRESSBAR_LOCAL_KEY="0",
        ADMIN_USERNAME="admin",
        ADMIN_PASSWORD_FILE=str(tmp_path / "password"),
        PROGRESSBAR_ADMIN_KEY_FILE=str(tmp_path / "key"),
    )
    processes.append(served)
    data = {"username": "admin", "password": ADMIN_PASSWORD}
    signed_in = httpx.post(f"{served.url}/login", data=data, verify=TLS_CONTEXT)
    # The server looks each unknown key up in the database, which is slow: request few routes.
    routes = [row for row in ROUTES if "{token}" in row.path]
    secrets, responses = use_secrets(served.url, ADMIN_KEY, next(iter(signed_in.cookies.values())), routes)
    secrets |= {"the password": ADMIN_PASSWORD, "the admin's": ADMIN_KEY}
    dump = b""
    with psycopg.connect(postgres_url) as connection:
        tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'"
        for schema, table in connection.execute(tables).fetchall():
            with connection.cursor().copy(f'COPY "{schema}"."{table}" TO STDOUT'.encode()) as rows:
                dump += b"".join(bytes(row) for row in rows)
    assert b"ci" in dump
    assert find_leaks(responses + dump + served.visible_text(), secrets) == set()

    # The error of a failed start hides the database's password.
    url = re.sub(r"//.*?@(.*?):\d+/", rf"//postgres:{DATABASE_PASSWORD}@\1:1/", postgres_url)
    environ = {**os.environ, "PROGRESSBAR_DATABASE": url}
    command = [sys.executable, "-m", "progressbar_tracker", "serve"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert ended.returncode == 1
    assert "127.0.0.1" in ended.stderr
    assert DATABASE_PASSWORD not in ended.stdout + ended.stderr


def test_internal_error_leaks_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    served = RunningServer(tmp_path, ManualClock(), admin_username="root", admin_password=ADMIN_PASSWORD)
    try:

        def fail(*_: object) -> None:
            raise RuntimeError("out of order")

        http, link = served.client(), served.background.create_sign_in_url()
        share = served.client("admin").post("/api/v1/shares", json={"group": "g"}).json()
        caplog.clear()
        monkeypatch.setattr(Keyring, "find", fail)
        monkeypatch.setattr(Tokens, "find", fail)
        services = served.background.app.services
        for owner in (services.sign_in_links, services.sessions, services.password):
            for name in ("redeem", "find", "matches"):
                if hasattr(owner, name):
                    monkeypatch.setattr(owner, name, fail)
        replies = [
            http.get("/progress", headers={"X-API-KEY": served.keys["admin"]}),
            http.get("/progress", headers={"Cookie": f"{served.cookie_name}=the-cookie-that-was-sent"}),
            http.get(link),
            http.get(f"/s/{share['token']}"),
            http.post("/login", data={"username": "root", "password": ADMIN_PASSWORD}),
        ]
    finally:
        monkeypatch.undo()
        served.stop()
    assert [reply.status_code for reply in replies] == [500] * 5
    secrets = {"key": served.keys["admin"], "cookie": "the-cookie-that-was-sent", "link": link.rpartition("/")[2]}
    secrets |= {"share": share["token"], "password": ADMIN_PASSWORD}
    records = [
        record for record in caplog.records if record.name.partition(".")[0] in {"progressbar_tracker", "uvicorn"}
    ]
    assert sum(record.exc_info is not None for record in records) == 5
    formatted = "\n".join(caplog.handler.format(record) for record in records)
    assert find_leaks(formatted.encode() + b"".join(reply.content for reply in replies), secrets) == set()
