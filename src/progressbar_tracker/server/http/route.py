"""A route: its method and path, the action that it needs, what answers it, and its documentation."""

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
    """A parameter of a query."""

    name: str
    description: str
    type: object = str


class RouteDoc(msgspec.Struct, frozen=True):
    """What a row of the table says of itself, for people and for ``/openapi.json``.

    Attributes:
        text: What it does, in a sentence.
        gives: What a success answers: a shape, or a media type.
        status: The status of that; more than one where it depends.
        takes: The shape of the body.
        media: The media type of the body.
        query: The parameters of the query.
        problems: What it may refuse with, beyond what every route may.
        headers: Headers of the answer, with what they say.
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
    """One row of the table of routes.

    Attributes:
        method: The HTTP method. HEAD comes with GET.
        path: In Starlette's notation.
        action: What the request wants, at least; a route that finds an item asks again with its owner.
        route: What answers.
        page: For people: who is not signed in is sent to the sign-in page, and a browser is told on a page what is
            wrong.
        about: What it says of itself.
    """

    method: str
    path: str
    action: Action
    function: RouteFunction
    is_page: bool = False
    doc: RouteDoc | None = None
