"""A route: its method and path, the action that it requires, its function, and its documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from progressbar_tracker.server.access.authorization import Action
    from progressbar_tracker.server.problems import ProblemCode

    from .request import Request
    from .response import Response


class Parameter(msgspec.Struct, frozen=True):
    """A query parameter."""

    name: str
    description: str
    type: object = str
    is_required: bool = False


class RouteDoc(msgspec.Struct, frozen=True):
    """The documentation of a route, for ``/docs`` and ``/openapi.json``.

    Attributes:
        summary: The effect of the route, in a sentence.
        response: The shape or the media type of a successful response.
        status: The status codes of a success.
        body: The shape of the request body.
        media_type: The media type of the request body.
        query: The query parameters.
        problems: The problem codes, beyond those of every route.
        headers: Response headers with their descriptions.
    """

    summary: str
    response: object
    status: tuple[int, ...] = (200,)
    body: object = None
    media_type: str = "application/json"
    query: tuple[Parameter, ...] = ()
    problems: tuple[ProblemCode, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


RouteFunction: TypeAlias = "Callable[[Request], Awaitable[Response]]"


class Route(msgspec.Struct, frozen=True):
    """One entry of the table of routes.

    Attributes:
        method: The HTTP method. GET includes HEAD.
        path: The path in Starlette's notation.
        action: The least action that the request requires; a route that finds an item authorizes again with its owner.
        function: Returns the response.
        is_page: Whether it is for browsers: unauthorized ones are redirected to the sign-in page, and problems are
            rendered as pages.
        is_compressible: Whether its response may be compressed: it contains no key, token or sign-in link, as
            :mod:`.compression` explains. Never for an event stream.
        doc: The documentation.
    """

    method: str
    path: str
    action: Action
    function: RouteFunction
    is_page: bool = False
    is_compressible: bool = False
    doc: RouteDoc | None = None
