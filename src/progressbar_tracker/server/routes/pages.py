"""The pages for people: the dashboard, signing in and out, and the files they need."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Final

import jinja2

from progressbar_tracker.server import dashboard
from progressbar_tracker.server.board import told, told_run
from progressbar_tracker.server.dashboard.view import View, board, shown_run
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.records import DropSession, SaveSession
from progressbar_tracker.server.sessions import COOKIE, same_site
from progressbar_tracker.server.stores.base import StoreError

from .http import Call, Header, Reply, decoded, redirect

RECENT: Final = 8
"""How many ended runs the dashboard shows."""

_HTML: Final = b"text/html; charset=utf-8"
_FOLDER: Final = Path(dashboard.__file__).parent
_TYPES: Final = {".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8", ".svg": b"image/svg+xml"}
_FILES: Final = {
    path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES
}
_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)  # fmt: skip


async def home(call: Call) -> Reply:
    """``GET /``: the dashboard, with everything on it at the first paint."""
    services = call.services
    now = services.clock()
    view = View.asked(call.query())
    items = [told(item, now) for item in services.board.listed()]
    try:
        runs = await asyncio.to_thread(services.store.history, limit=RECENT)
    except StoreError:
        runs = []
    # Thousands of items take longer to write down than others should have to wait.
    return await asyncio.to_thread(
        lambda: _page(
            "home.html",
            up="",
            **board(items, view, now),
            runs=[shown_run(told_run(row.item, row.status, row.ended_at)) for row in runs],
            url=_own_url(call),
            operator=call.asker.type == "admin",
        )
    )


async def login(call: Call) -> Reply:
    """``GET /login``."""
    return _login_page(call)


async def sign_in(call: Call) -> Reply:
    """``POST /login``: the administrator's name and password, or an admin key."""
    if same_site(call.headers) is False:
        raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
    services = call.services
    form = await call.form()
    wait = services.attempts.wait(call.address, services.clock())
    if wait is not None:
        return _login_page(call, f"Too many wrong attempts. Try again in {wait} seconds.", 429, wait)
    services.attempts.begin(call.address, services.clock())
    if await _is_admin(call, form):
        services.attempts.right(call.address)
        return await _signed_in(call, "./")
    return _login_page(call, "That is not right.", 403)


async def _is_admin(call: Call, form: dict[str, str]) -> bool:
    services = call.services
    if key := form.get("key", "").strip():
        try:
            return services.identify(key).type == "admin"
        except ProblemError:
            return False
    if services.password is None:
        return False
    return await services.password.matches(form.get("username", ""), form.get("password", ""))


async def redeem(call: Call) -> Reply:
    """``GET /auth/{token}``: a one-time link."""
    if not call.services.links.redeem(decoded(call.path["token"].encode("latin-1")), call.services.clock()):
        return _login_page(call, "This link was used already or is too old.", 403, up="../")
    return await _signed_in(call, "../")


async def peek(_: Call) -> Reply:
    """``HEAD /auth/{token}``: programs that look at links before a person does must not use them up."""
    return Reply(200, b"", _HTML)


async def sign_out(call: Call) -> Reply:
    """``POST /logout``."""
    cookie = call.cookie()
    if cookie is not None:
        if not same_site(call.headers):
            raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
        record = call.services.sessions.end(cookie)
        if record is not None:
            call.services.hub.ring()
            await call.services.commit([DropSession(record.hash)])
    return redirect("login", [_cookie(call, "", 0)])


async def file(call: Call) -> Reply:
    """``GET /static/{name}``."""
    found = _FILES.get(call.path["name"])
    if found is None:
        raise ProblemError("not-found", "there is no such file")
    body, kind = found
    etag = b'"%s"' % hashlib.sha256(body).hexdigest()[:16].encode()
    headers = ((b"etag", etag), (b"cache-control", b"no-cache"))
    if call.headers.get(b"if-none-match") == etag:
        return Reply(304, headers=headers)
    return Reply(200, body, kind, headers)


async def _signed_in(call: Call, target: str) -> Reply:
    cookie, record = call.services.sessions.begin(call.services.clock())
    await call.services.commit([SaveSession(record)])
    return redirect(target, [_cookie(call, cookie, int(call.services.sessions.seconds))])


def _cookie(call: Call, value: str, seconds: int) -> Header:
    path = call.services.settings.base_path or "/"
    secure = "; Secure" if call.scope["scheme"] == "https" else ""
    text = f"{COOKIE}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    return b"set-cookie", text.encode()


def _login_page(call: Call, message: str = "", status: int = 200, wait: int | None = None, up: str = "") -> Reply:
    reply = _page("login.html", message=message, password=call.services.password is not None, up=up)
    headers = () if wait is None else ((b"retry-after", b"%d" % wait),)
    return Reply(status, reply.body, _HTML, headers)


def _own_url(call: Call) -> str:
    """The URL a client on another machine would use, by what this browser used."""
    host = call.headers.get(b"host", b"").decode("latin-1")
    return f"{call.scope['scheme']}://{host}{call.services.settings.base_path}"


def _page(template: str, *, up: str = "", **values: object) -> Reply:
    return Reply(200, _templates.get_template(template).render(up=up, **values).encode(), _HTML)
