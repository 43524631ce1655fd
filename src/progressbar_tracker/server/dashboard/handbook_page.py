"""The routes of the handbook. They are public: the handbook is part of the package and contains no data."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from progressbar_tracker.server.problems import ProblemError

from .handbook import load_handbook
from .static_files import REVALIDATED_POLICY, serve_file

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response


async def show_index(request: Request) -> Response:
    """``GET /handbook?q=``: the entrance. Its script shows the results for ``q``."""
    handbook = await asyncio.to_thread(load_handbook)
    return serve_file(request, handbook.pages[""], REVALIDATED_POLICY)


async def show_page(request: Request) -> Response:
    """``GET /handbook/{part}/{page}``."""
    handbook = await asyncio.to_thread(load_handbook)
    file = handbook.pages.get(f"{request.path_params['part']}/{request.path_params['page']}")
    if file is None:
        raise ProblemError("not-found", "the handbook has no page of this name")
    return serve_file(request, file, REVALIDATED_POLICY)


async def get_image(request: Request) -> Response:
    """``GET /handbook/images/{name}``."""
    handbook = await asyncio.to_thread(load_handbook)
    file = handbook.images.get(request.path_params["name"])
    if file is None:
        raise ProblemError("not-found", "the handbook has no image of this name")
    return serve_file(request, file, REVALIDATED_POLICY)


async def get_search_index(request: Request) -> Response:
    """``GET /handbook/search.json``: the text of all pages, for the search in the browser."""
    handbook = await asyncio.to_thread(load_handbook)
    return serve_file(request, handbook.search_index, REVALIDATED_POLICY)
