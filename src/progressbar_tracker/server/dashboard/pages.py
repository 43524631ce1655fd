"""The pages for people: the dashboard, signing in and out, and the files they need."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.access.devices import DEVICE_SECONDS
from progressbar_tracker.server.access.keys import credential_ends_at
from progressbar_tracker.server.access.sessions import same_site
from progressbar_tracker.server.dashboard.board_view import View, board, shown_run
from progressbar_tracker.server.http.blocking import run_while_connected
from progressbar_tracker.server.http.request import Call, decoded
from progressbar_tracker.server.http.response import Header, Reply, redirect
from progressbar_tracker.server.items.serializer import told, told_run
from progressbar_tracker.server.logs import tell
from progressbar_tracker.server.models import DropSession, SaveSession, credential_of, digest
from progressbar_tracker.server.problems import ProblemError
from progressbar_tracker.server.stores.base import StoreError

from .templates import HTML, own_url, page, painted, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from progressbar_tracker.server.access.devices import Devices
    from progressbar_tracker.server.access.sessions import Password
    from progressbar_tracker.server.models import KeyRecord, Write
    from progressbar_tracker.server.pools import Cancellation
    from progressbar_tracker.server.services import Services

RECENT: Final = 8
"""How many ended runs the dashboard shows."""

AGENT: Final = 300
"""The most characters that are kept of what a browser calls itself."""

_TYPES: Final = {".css": b"text/css; charset=utf-8", ".js": b"text/javascript; charset=utf-8", ".svg": b"image/svg+xml"}
_FILES: Final = {
    path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in sorted((Path(__file__).parent / "static").iterdir())
}
_ETAGS: Final = {name: b'"%s"' % hashlib.sha256(body).hexdigest()[:16].encode() for name, (body, _) in _FILES.items()}


async def home(call: Call) -> Reply:
    """``GET /``: the dashboard, with everything on it at the first paint."""
    services = call.services
    now = services.clock()
    view = View.asked(call.query())
    items, state = services.shown.listed(), painted(call)
    try:
        runs = await run_while_connected(
            call,
            services.pools.past,
            lambda cancellation: services.store.history(limit=RECENT, cancellation=cancellation),
        )
    except StoreError:
        runs = []
    permissions = call.asker.permissions
    dismisses = "all" if "delete_all" in permissions else "own" if "delete_own" in permissions else "none"
    # Thousands of items take longer to write down than others should have to wait.
    return await run_while_connected(
        call,
        services.pools.pages,
        lambda _: page(
            call,
            "home.html",
            **board([told(item, now) for item in items], view, now),
            runs=[shown_run(told_run(row.item, row.status, row.ended_at)) for row in runs],
            dismisses=dismisses,
            painted=state,
            url=own_url(call),
        ),
    )


async def login(call: Call) -> Reply:
    """``GET /login``."""
    return _login_page(call)


async def sign_in(call: Call) -> Reply:
    """``POST /login``: the administrator's name and password, or a key."""
    if same_site(call.headers) is False:
        raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
    services = call.services
    form = await call.form()
    key = form.get("key", "").strip()
    # A right key is let in however many wrong attempts there were: nobody can guess one, and somebody else's attempts
    # from the same address, which may be that of a proxy, must not keep an administrator out.
    if key and (record := _known(services, key)) is not None:
        return await _signed_in(call, "./", record, credential_of(record.type, digest(key)))
    source = _source(call)
    wait = services.attempts.wait(source, services.monotonic())
    if wait is not None:
        return _login_page(call, f"Too many wrong attempts. Try again in {wait} seconds.", 429, wait)
    services.attempts.begin(source, services.monotonic())
    password = services.password
    if not key and password is not None and await _password_matches(call, password, form, source):
        services.attempts.right(source)
        return await _signed_in(call, "./", devices=password.devices)
    tell("sign-in refused", address=call.address)
    return _login_page(call, "That is not right.", 403)


async def _password_matches(call: Call, password: Password, form: Mapping[str, str], source: str) -> bool:
    """Verify a password in its turn.

    Raises:
        ProblemError: Nobody waits for the answer, or too many do. The attempt counts if its verification had begun.
    """
    has_begun = False

    def verify(_: Cancellation) -> bool:
        nonlocal has_begun
        has_begun = True
        return password.matches(form.get("username", ""), form.get("password", ""))

    try:
        known = None if call.device() is None else source
        return await run_while_connected(call, call.services.pools.password, verify, first_for=known)
    except ProblemError:
        if not has_begun:
            call.services.attempts.right(source)
        raise


def _source(call: Call) -> str:
    """Return what attempts are counted by: a browser that signed in before, or the address."""
    device = call.device()
    return call.address if device is None else f"device {device}"


def _known(services: Services, key: str) -> KeyRecord | None:
    try:
        services.identify(key)
    except ProblemError:
        return None
    return services.ring.find(key, services.clock())


async def redeem(call: Call) -> Reply:
    """``GET /auth/{token}``: a one-time link."""
    if not call.services.links.redeem(decoded(call.path["token"].encode("latin-1")), call.services.monotonic()):
        return _login_page(call, "This link was used already or is too old.", 403)
    return await _signed_in(call, "../")


async def peek(_: Call) -> Reply:
    """``HEAD /auth/{token}``: programs that look at links before a person does must not use them up."""
    return Reply(200, b"", HTML)


async def sign_out(call: Call) -> Reply:
    """``POST /logout``."""
    services, cookie, ours = call.services, call.cookie(), same_site(call.headers)
    # Another site's request comes without the cookie, and the answer must not clear it.
    if ours is False or (cookie is not None and not ours):
        raise ProblemError("forbidden", "this request does not come from the dashboard's own pages")
    gone = _cookies(call, None)
    record = None if cookie is None else services.sessions.find(cookie, services.clock())
    if record is None:
        return redirect("login", gone)
    try:
        await services.end_session(record)
    except ProblemError as problem:
        reply = refused(call.scope, problem)
        return Reply(reply.status, reply.body, reply.type, (*reply.headers, *gone))
    return redirect("login", gone)


async def file(call: Call) -> Reply:
    """``GET /static/{name}``."""
    found = _FILES.get(call.path["name"])
    if found is None:
        raise ProblemError("not-found", "there is no such file")
    body, kind = found
    etag = _ETAGS[call.path["name"]]
    headers = ((b"etag", etag), (b"cache-control", b"no-cache"))
    if call.headers.get(b"if-none-match") == etag:
        return Reply(304, headers=headers)
    return Reply(200, body, kind, headers)


async def _signed_in(
    call: Call,
    target: str,
    key: KeyRecord | None = None,
    credential: str | None = None,
    devices: Devices | None = None,
) -> Reply:
    services, now = call.services, call.services.clock()
    key_id, until = None, math.inf
    if key is not None:
        key_id, until = key.key_id, credential_ends_at(key, credential)
    credential = credential or services.operator_credential
    agent = call.headers.get(b"user-agent", b"").decode("latin-1")[:AGENT]
    # Always a new cookie: one that was there before may be known to whoever put it there.
    over = services.sessions.make_room(key_id)
    cookie, record = services.sessions.begin(now, key_id=key_id, credential=credential, until=until, agent=agent)
    writes: list[Write] = [SaveSession(record), *(DropSession(one.hash) for one in over)]
    if (former := call.cookie()) is not None and (ended := services.sessions.end(former)) is not None:
        writes.append(DropSession(ended.hash))
    try:
        await services.commit(writes)
    except BaseException:
        # The cookie is never sent, and the sessions that made room for it have ended.
        services.sessions.drop(record)
        services.store.later([DropSession(record.hash), *writes[1:]])
        raise
    if over:
        services.hub.ring()
    headers = _cookies(call, cookie, int(record.expires_at - now))
    if devices is not None:
        name = _cookie_name(call, services.device_cookie_names)
        headers.append(_cookie(call, name, devices.make(now), DEVICE_SECONDS))
    return redirect(target, headers)


def _cookie_name(call: Call, names: tuple[str, str]) -> str:
    # What begins with __Host- can be set by this host alone, over TLS alone, and for no sub-path.
    host_only, plain = names
    return host_only if call.secure and not call.services.settings.base_path else plain


def _cookies(call: Call, value: str | None, seconds: int = 0) -> list[Header]:
    """Return the headers that set the session cookie, or ``None`` to clear it, and clear the one of another name."""
    name, there = _cookie_name(call, call.services.cookie_names), call.cookies()
    headers = [] if value is None else [_cookie(call, name, value, seconds)]
    return headers + [
        _cookie(call, other, "", 0)
        for other in call.services.cookie_names
        if other in there and not (other == name and value is not None)
    ]


def _cookie(call: Call, name: str, value: str, seconds: int) -> Header:
    path = call.services.settings.base_path or "/"
    secure = "; Secure" if call.secure or name.startswith("__Host-") else ""
    text = f"{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    return b"set-cookie", text.encode()


def _login_page(call: Call, message: str = "", status: int = 200, wait: int | None = None) -> Reply:
    reply = page(call, "login.html", status, message=message, password=call.services.password is not None)
    headers: tuple[Header, ...] = () if wait is None else ((b"retry-after", b"%d" % wait),)
    if call.scope["method"] == "POST":
        headers += call.services.attempts.quota(_source(call), call.services.monotonic()).headers()
    return Reply(status, reply.body, reply.type, headers)
