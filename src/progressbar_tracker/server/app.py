"""The ASGI application, created from settings and a store."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route as StarletteRoute
from starlette.routing import Router

from progressbar_tracker._version import VERSION

from .api import openapi
from .clock import SystemClock
from .dashboard.templates import problem_page
from .http.endpoint import OTHER_LABEL, Endpoint
from .http.response import Response, redirect
from .http.route import Route
from .notifications.monitor_pings import MonitorPings
from .routes import ROUTES
from .services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.types import Receive, Scope, Send

    from .http.request import Request
    from .settings import Settings
    from .stores.base import Store


class App:
    """The ASGI application.

    Attributes:
        services: The parts of the server.
        maintenance: Runs while the application is served.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self.maintenance = services.maintenance
        self._base_path = services.settings.base_path
        endpoints = {
            path: Endpoint(services, path, rows, problem_page)
            for path, rows in groupby(ROUTES, key=lambda row: row.path)
        }
        self._base_redirect = Endpoint(
            services, self._base_path, [Route("GET", self._base_path, "public", _redirect_to_board)], problem_page
        )
        self._slash_redirect = Endpoint(
            services, "/{page}/", [Route("GET", "/{page}/", "public", _redirect_to_page)], problem_page
        )
        self._page_paths = {row.path for row in ROUTES if row.is_page and row.method == "GET" and row.path != "/"}
        # The router tries one pattern after another; a path without parameters is looked up instead.
        self._static_endpoints = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        self._router = Router(
            routes=[
                StarletteRoute(path, endpoint=endpoint, methods=_find_verb_methods(path))
                for path, endpoint in endpoints.items()
                if "{" in path
            ],
            redirect_slashes=False,
            default=Endpoint(services, OTHER_LABEL, [], problem_page),
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the lifespan of the process."""
        if scope["type"] == "http":
            # Routes match the raw path: an id may contain an encoded slash, and bytes that are not UTF-8 must be
            # rejected, not replaced.
            raw: bytes = scope.get("raw_path") or scope["path"].encode()
            path = raw.decode("latin-1")
            base = self._base_path
            if base and path == base:
                await self._base_redirect(scope, receive, send)
                return
            # A proxy may have removed the base path.
            if base and path.startswith(base + "/"):
                path = path[len(base) :]
            scope["path"], scope["root_path"] = path, ""  # the scope is not shared
            fixed = self._static_endpoints.get(path)
            if fixed is not None:
                await fixed(scope, receive, send)
                return
            # Not below /items: an id may end with a slash.
            if path.endswith("/") and (path[:-1] in self._page_paths or path.startswith("/handbook/")):
                await self._slash_redirect(scope, receive, send)
                return
        await self._router(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        self.services.follow_cluster()
        self.services.notifier.dispatcher.start()
        tasks = [asyncio.create_task(self.maintenance.run())]
        if (url := self.services.settings.monitor_url) is not None:
            stats = self.services.store.commit_stats
            tasks.append(asyncio.create_task(MonitorPings(url, lambda: not stats.is_failing).run()))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(self.services.notifier.dispatcher.close)


def _find_verb_methods(path: str) -> list[str] | None:
    """Return the only method of a path that ends with a verb: with another one, the verb is a part of the id."""
    return ["POST"] if path.rpartition("}")[2].startswith(":") else None


# A run id is not secret. On some systems, a random number from the system costs as much as the rest of a create.
_run_id_source: Final[random.Random] = random.Random(secrets.randbits(128))  # noqa: S311


def create_app(
    settings: Settings,
    store: Store,
    *,
    clock: Callable[[], float] | None = None,
    boot_id: str | None = None,
    new_run_id: Callable[[], str] = lambda: f"{_run_id_source.getrandbits(64):016x}",
) -> App:
    """Create a server; the caller closes the store.

    Args:
        settings: See :class:`~.settings.Settings`.
        store: Persists the state, which is loaded here.
        clock: Returns seconds since the epoch; see :mod:`~.clock`. The machine's clock by default.
        boot_id: Differs each time the server starts; random by default.
        new_run_id: Returns a run id for a client that sends none.
    """
    boot_id = boot_id or secrets.token_hex(6)
    return App(
        Services(
            settings,
            store,
            clock=clock or SystemClock(),
            boot_id=boot_id,
            new_run_id=new_run_id,
            version=VERSION,
            openapi=openapi_document,
        )
    )


@cache
def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document of all routes, built on first use. Treat it as read-only."""
    return openapi.build_document(ROUTES, VERSION)


async def _redirect_to_board(request: Request) -> Response:
    return redirect(f"{request.services.settings.base_path}/")


async def _redirect_to_page(request: Request) -> Response:
    path: str = request.scope["path"]
    query: bytes = request.scope["query_string"]
    return redirect(f"../{path.split('/')[-2]}" + (f"?{query.decode('latin-1')}" if query else ""))
