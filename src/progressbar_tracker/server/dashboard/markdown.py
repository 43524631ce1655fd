"""Render a page of the handbook from Markdown: GitHub's tables and anchors, no raw HTML, no inline styles."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from markdown_it import MarkdownIt
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from markdown_it.renderer import RendererProtocol
    from markdown_it.token import Token
    from markdown_it.utils import EnvType, OptionsDict

MIN_SCROLLING_LENGTH: Final = 60
"""Characters of a line of code from which its box may scroll, and so takes the focus."""

MIN_SCROLLING_OUTPUT_LENGTH: Final = 30
"""The same for output, whose lines are not broken on phones either."""

_DROPPED_PATTERN: Final = re.compile(r"[^\w\- ]")
_FILE_PATTERN: Final = re.compile(r"\bfile=(\S+)")


class Heading(NamedTuple):
    """A heading below the title.

    Attributes:
        level: 2 for sections, 3 for their parts.
        text: The text without markup.
        anchor: The id of the element.
    """

    level: int
    text: str
    anchor: str


class Section(NamedTuple):
    """The text below a heading, for the search. The first section of a page has its title and no anchor."""

    heading: str
    anchor: str
    text: str


class Document(NamedTuple):
    """A rendered page.

    Attributes:
        title: The text of the first heading.
        html: The elements of the page.
        headings: The headings of levels 2 and 3.
        sections: The text of the page by its headings.
        links: The targets of links and images as they were written.
    """

    title: str
    html: Markup
    headings: tuple[Heading, ...]
    sections: tuple[Section, ...]
    links: tuple[str, ...]


class Anchors:
    """The anchors of a page by GitHub's rules.

    >>> anchors = Anchors()
    >>> [anchors.create(text) for text in ("Set it up", "What's `flush()`?", "Set it up", "A & B")]
    ['set-it-up', 'whats-flush', 'set-it-up-1', 'a--b']
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def create(self, text: str) -> str:
        """Return the anchor of the next heading: lower case, without punctuation, numbered if it occurs again."""
        anchor = _DROPPED_PATTERN.sub("", text.strip().lower()).replace(" ", "-")
        number = self._counts[anchor]
        self._counts[anchor] += 1
        return f"{anchor}-{number}" if number else anchor


def render_markdown(text: str, rewrite_link: Callable[[str], str]) -> Document:
    """Render a page.

    Args:
        text: The Markdown. Raw HTML in it is shown as text.
        rewrite_link: Returns the URL for the target of a link or an image.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("fence", _render_fence)
    tokens = parser.parse(text)
    links = tuple(_rewrite_links(tokens, rewrite_link))
    _label_cells(tokens)
    headings = _mark_headings(tokens)
    html = Markup(parser.renderer.render(tokens, parser.options, {}))  # noqa: S704 - raw HTML is disabled
    title = next((heading.text for heading in headings if heading.level == 1), "")
    shown = tuple(heading for heading in headings if heading.level in (2, 3))
    return Document(title, html, shown, tuple(_split_sections(tokens)), links)


def _rewrite_links(tokens: Iterable[Token], rewrite_link: Callable[[str], str]) -> Iterable[str]:
    for token in tokens:
        for child in token.children or ():
            for name in ("href", "src"):
                target = child.attrs.get(name)
                if isinstance(target, str):
                    yield target
                    child.attrSet(name, rewrite_link(target))


def _mark_headings(tokens: Sequence[Token]) -> list[Heading]:
    anchors, headings = Anchors(), []
    for token, content in itertools.pairwise(tokens):
        if token.type == "heading_open":
            heading = Heading(int(token.tag[1:]), _read_text(content), anchors.create(_read_text(content)))
            if heading.level > 1:
                token.attrSet("id", heading.anchor)
            headings.append(heading)
    return headings


def _read_text(token: Token) -> str:
    """Return the text of an inline token without its markup."""
    texts = []
    for child in token.children or ():
        if child.type in ("text", "code_inline"):
            texts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            texts.append(" ")
    return "".join(texts)


def _label_cells(tokens: Sequence[Token]) -> None:
    """Give each cell the text of its column, for phones, where rows become cards; replace styles by classes."""
    columns: list[str] = []
    cell = 0
    for token, content in itertools.pairwise(tokens):
        if token.type == "table_open":
            columns = []
            token.attrSet("class", "table")
        elif token.type == "tr_open":
            cell = 0
        elif token.type in ("th_open", "td_open"):
            if "text-align:right" in str(token.attrs.pop("style", "")):
                token.attrSet("class", "number")
            if token.type == "th_open":
                token.attrSet("scope", "col")
                columns.append(_read_text(content))
            elif cell > 0 and columns[cell]:
                token.attrSet("data-label", columns[cell])
            cell += 1


def _split_sections(tokens: Sequence[Token]) -> Iterable[Section]:
    heading, anchor, texts = "", "", list[str]()
    is_heading = False
    for token in tokens:
        if token.type == "heading_open":
            if heading:
                yield Section(heading, anchor, " ".join(texts))
            anchor, texts, is_heading = str(token.attrs.get("id", "")), [], True
        elif token.type == "inline":
            if is_heading:
                heading, is_heading = _read_text(token), False
            else:
                texts.append(" ".join(_read_text(token).split()))
        elif token.type == "fence":
            texts.append(" ".join(token.content.split()))
    if heading:
        yield Section(heading, anchor, " ".join(texts))


def _render_fence(
    _: RendererProtocol, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: EnvType
) -> str:
    """Return a box with code; the script of the page adds a button that copies it."""
    token = tokens[index]
    language = token.info.strip().partition(" ")[0]
    lines = token.content.splitlines() or [""]
    # A box that scrolls has to take the focus, so that the keyboard scrolls it.
    scrolls_from = MIN_SCROLLING_OUTPUT_LENGTH if language == "text" else MIN_SCROLLING_LENGTH
    focus = Markup(' tabindex="0"') if max(map(len, lines)) > scrolls_from else ""
    named = _FILE_PATTERN.search(token.info)
    name = Markup("<figcaption><code>{}</code></figcaption>").format(named[1]) if named else ""
    return Markup('<figure class="code" data-language="{}">{}<pre{}><code>{}</code></pre></figure>\n').format(
        language, name, focus, escape(token.content)
    )
