"""The handbook: Markdown files of the package as pages with a navigation, and an index for the search.

The pages contain no data and do not depend on the reader, so each one is rendered and compressed once. The order of the
pages is that of the links of ``index.md``.
"""

from __future__ import annotations

import functools
import posixpath
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from .static_files import STATIC_DIGEST, StaticFile, prepare_file
from .templates import render_template

if TYPE_CHECKING:
    from .markdown import Document

HANDBOOK_FOLDER: Final = Path(__file__).parents[2] / "handbook"
"""The folder of the Markdown files."""

PART_TITLES: Final = {
    "tutorial": "Tutorial", "how-to": "How-to guides", "reference": "Reference", "explanation": "Explanation",
}  # fmt: skip
"""The titles of the parts by their folders."""

_EXTERNAL_PATTERN: Final = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)

_load_lock: Final = threading.Lock()


class Page(NamedTuple):
    """A page of the handbook.

    Attributes:
        path: Its folder and name, such as ``how-to/cron``; empty for the entrance.
        document: The rendered text.
    """

    path: str
    document: Document

    @property
    def url(self) -> str:
        """The URL, relative to the root of the dashboard."""
        return build_page_url(self.path)


class NavigationPart(NamedTuple):
    """A part of the handbook with its pages."""

    title: str
    pages: tuple[Page, ...]


class Handbook(NamedTuple):
    """The handbook as it is served.

    Attributes:
        pages: The pages by path.
        images: The images by name.
        search_index: The index for the search.
    """

    pages: dict[str, StaticFile]
    images: dict[str, StaticFile]
    search_index: StaticFile


def build_page_url(path: str) -> str:
    """Return the URL of a page, relative to the root of the dashboard.

    >>> build_page_url("how-to/cron"), build_page_url("")
    ('handbook/how-to/cron', 'handbook')
    """
    return f"handbook/{path}" if path else "handbook"


def rewrite_link(path: str, target: str) -> str:
    """Return the URL for a link between Markdown files, as it stands on a page.

    Args:
        path: The page, such as ``how-to/cron``.
        target: The link as it was written.

    >>> rewrite_link("how-to/cron", "../reference/errors.md#unauthorized"), rewrite_link("how-to/cron", "../index.md")
    ('../../handbook/reference/errors#unauthorized', '../../handbook')
    >>> rewrite_link("", "images/board.png"), rewrite_link("how-to/cron", "#log"), rewrite_link("", "https://a.example")
    ('handbook/images/board.png', '#log', 'https://a.example')
    """
    file, separator, fragment = target.partition("#")
    if not file or _EXTERNAL_PATTERN.match(file):
        return target
    name = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
    if name.endswith(".md"):
        name = name.removesuffix(".md")
        name = "" if name == "index" else name
    return f"{find_root(path)}{build_page_url(name)}{separator}{fragment}"


def find_root(path: str) -> str:
    """Return the relative URL from a page to the root of the dashboard."""
    return "../" * (build_page_url(path).count("/"))


def load_handbook() -> Handbook:
    """Return the handbook, rendered by the first call. Blocks; for a thread."""
    with _load_lock:
        return _render_handbook()


@functools.cache
def _render_handbook() -> Handbook:
    pages = read_pages()
    _index, *others = pages
    parts = tuple(
        NavigationPart(title, tuple(page for page in others if page.path.startswith(f"{folder}/")))
        for folder, title in PART_TITLES.items()
    )
    return Handbook(
        {page.path: _render_page(page, pages, parts, number) for number, page in enumerate(pages)},
        {path.name: prepare_file(path.name, path.read_bytes()) for path in (HANDBOOK_FOLDER / "images").glob("*.*")},
        prepare_file("search.json", _build_search_index(pages)),
    )


def read_pages() -> list[Page]:
    """Return the pages: the entrance, then the others in the order of its links."""
    index = _read_page("")
    linked = [posixpath.normpath(link.partition("#")[0]) for link in index.document.links]
    paths = dict.fromkeys(link.removesuffix(".md") for link in linked if link.endswith(".md"))
    return [index, *(_read_page(path) for path in paths)]


def _read_page(path: str) -> Page:
    from .markdown import render_markdown  # imports the parser, which programs without a reader need not load

    text = (HANDBOOK_FOLDER / f"{path or 'index'}.md").read_text("utf-8")
    return Page(path, render_markdown(text, functools.partial(rewrite_link, path)))


def _render_page(page: Page, pages: list[Page], parts: tuple[NavigationPart, ...], number: int) -> StaticFile:
    root = find_root(page.path)
    body = render_template(
        "handbook.html",
        relative_root=root,
        static=f"{root}static/{STATIC_DIGEST}/",
        is_admin=False,
        user_name=None,
        page=page,
        parts=parts,
        previous=pages[number - 1] if number > 0 else None,
        following=pages[number + 1] if number + 1 < len(pages) else None,
    )
    return prepare_file("page.html", body)


def _build_search_index(pages: list[Page]) -> bytes:
    """Return the sections of all pages as JSON: for each page its path and title, then its sections."""
    return msgspec.json.encode(
        [
            {"path": page.path, "title": page.document.title, "sections": page.document.sections}
            for page in pages
            if page.path
        ]
    )
