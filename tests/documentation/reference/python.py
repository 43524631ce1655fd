"""The pages of the Python interface, from the docstrings of the source, which is read without importing it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import griffe

from .markdown import render_table

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE_FOLDER: Final = Path(__file__).parents[3] / "src"
DOCTEST_FILE: Final = "tests/client/test_public_api.py"
"""Runs the examples of all docstrings."""

SKETCH_REASON: Final = "a sketch with names of your program"
LINE_LENGTH: Final = 96
"""A longer signature has a line for each parameter."""

CORE_HEAD: Final = """\
# Python

This page lists every public name of `progressbar_tracker`, from the docstrings of this version. [Errors](errors.md)
lists the exceptions, and [Integrations](integrations.md) the names for other libraries.

All names are imported from the package: `from progressbar_tracker import track`.
"""
CORE_SECTIONS: Final = (
    ("Track loops and blocks", ("track", "Tracker", "Share")),
    ("The process", ("configure", "flush", "stats")),
    ("The explicit client", ("ProgressBar", "AsyncProgressBar", "Item", "Change", "KeyInfo")),
)
ITEM_NOTE: Final = "A dictionary with the fields that [the HTTP interface](http.md#item) describes."
MADE_CLASSES: Final = frozenset({"Tracker", "Lines", "Chunks", "Recording"})
"""Classes whose objects are made by functions."""

EXTRA_HEAD: Final = """\
# Integrations

This page lists the names for other libraries, from the docstrings of this version. Each integration is a module of
`progressbar_tracker.integrations`, and needs its library only when it is imported.
"""
EXTRA_MODULES: Final = (
    "tqdm", "testing", "pytest", "integrations", "integrations.alive_progress", "integrations.asyncio",
    "integrations.atpbar", "integrations.catboost", "integrations.celery", "integrations.click",
    "integrations.dask", "integrations.dramatiq", "integrations.enlighten", "integrations.fastprogress",
    "integrations.fsspec", "integrations.joblib", "integrations.keras", "integrations.lightgbm",
    "integrations.lightning", "integrations.logging", "integrations.luigi", "integrations.optuna",
    "integrations.pandas", "integrations.prefect", "integrations.progressbar2", "integrations.rich",
    "integrations.sklearn", "integrations.spacy", "integrations.transformers", "integrations.xgboost",
)  # fmt: skip


class Block(NamedTuple):
    """A part of a docstring's text: prose, or code."""

    text: str
    is_code: bool


@cache
def load_package() -> griffe.Object:
    package = griffe.load("progressbar_tracker", search_paths=[SOURCE_FOLDER], docstring_parser="google")
    assert isinstance(package, griffe.Object)
    return package


def find_object(path: str) -> griffe.Object:
    """Return the function or class of a public name."""
    found = load_package()[path]
    while isinstance(found, griffe.Alias):
        found = found.final_target
    return found


def list_public_names() -> list[str]:
    return [str(name) for name in load_package().exports or ()]


def render_core_page() -> str:
    parts = [CORE_HEAD]
    for title, names in CORE_SECTIONS:
        parts.append(f"## {title}\n")
        for name in names:
            parts += render_object(name, find_object(name), 3)
    return "\n".join(parts)


def render_extra_page() -> str:
    parts = [EXTRA_HEAD]
    for name in EXTRA_MODULES:
        module = load_package()[name]
        parts.append(f"## progressbar_tracker.{name}\n")
        parts += render_text(_read_docstring(module))
        public = [str(each) for each in module.exports or ()] or [
            each for each, found in module.members.items() if isinstance(found, griffe.Class)
        ]
        names = [each for each in module.members if each in public and not each.startswith("_")]
        for each in names:
            parts += render_object(each, find_object(f"{name}.{each}"), 3)
    return "\n".join(parts)


def render_object(name: str, found: griffe.Object, level: int) -> Iterator[str]:
    """Yield the Markdown of a function or a class with its public members."""
    yield f"{'#' * level} {name}\n"
    if found.path.endswith("._models.Item"):
        yield f"{ITEM_NOTE}\n"
        return
    if isinstance(found, griffe.Function):
        yield _render_signature(name, found)
    elif isinstance(found, griffe.Class) and "__init__" in found.members and name not in MADE_CLASSES:
        yield _render_signature(name, found.members["__init__"])
    yield from render_docstring(found)
    if isinstance(found, griffe.Class):
        yield from _render_members(name, found, level)


def _render_members(name: str, found: griffe.Class, level: int) -> Iterator[str]:
    members = [
        (member, each)
        for member, each in found.members.items()
        if not member.startswith("_") and isinstance(each, griffe.Object) and _has_docstring(each)
    ]
    described = {attribute for each in _list_sections(found) for attribute in _list_attributes(each)}
    properties = [
        (member, each) for member, each in members if isinstance(each, griffe.Attribute) and member not in described
    ]
    if properties:
        rows = [(f"`{member}`", _read_summary(each)) for member, each in properties]
        yield render_table(("Property", "Meaning"), rows) + "\n"
    for member, each in members:
        if isinstance(each, griffe.Function):
            yield f"{'#' * (level + 1)} {name}.{member}\n"
            yield _render_signature(member, each)
            yield from render_docstring(each)


def _list_sections(found: griffe.Object) -> list[griffe.DocstringSection]:
    return (
        [] if found.docstring is None else found.docstring.parse("google", warnings=False, returns_multiple_items=False)
    )


def _list_attributes(section: griffe.DocstringSection) -> list[str]:
    return [each.name for each in section.value] if isinstance(section, griffe.DocstringSectionAttributes) else []


def _read_summary(found: griffe.Object) -> str:
    """Return the prose of a docstring without its sections and its code."""
    texts = [each.value for each in _list_sections(found) if isinstance(each, griffe.DocstringSectionText)]
    return " ".join(convert_text(block.text) for text in texts for block in split_blocks(text) if not block.is_code)


def _has_docstring(found: griffe.Object) -> bool:
    return found.docstring is not None


def _read_docstring(found: griffe.Object | griffe.Alias) -> str:
    return "" if found.docstring is None else found.docstring.value


def _render_signature(name: str, function: griffe.Object | griffe.Alias) -> str:
    """Return the call as text, without ``self`` and without annotations that name private types."""
    assert isinstance(function, griffe.Function)
    parameters, is_keyword_only = list[str](), False
    for parameter in function.parameters:
        if parameter.name in ("self", "cls"):
            continue
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and not is_keyword_only:
            parameters.append("*")
            is_keyword_only = True
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(kind, "")
        is_keyword_only = is_keyword_only or stars == "*"
        default = "" if parameter.default is None or stars else f"={_read_default(function, str(parameter.default))}"
        parameters.append(f"{stars}{parameter.name}{default}")
    line = f"{name}({', '.join(parameters)})"
    if len(line) > LINE_LENGTH:
        line = f"{name}(\n" + "".join(f"    {parameter},\n" for parameter in parameters) + ")"
    prefix = "await " if "async" in function.labels else ""
    return f"```text\n{prefix}{line}\n```\n"


def _read_default(function: griffe.Function, default: str) -> str:
    """Return a default as it is written, or the value of a constant."""
    if not re.fullmatch(r"_?[A-Z][A-Z_]+", default):
        return default.replace("'", '"')
    found: griffe.Object | griffe.Alias = function.module[default]
    while isinstance(found, griffe.Alias):
        found = found.final_target
    assert isinstance(found, griffe.Attribute)
    return str(found.value)


def render_docstring(found: griffe.Object) -> Iterator[str]:
    """Yield the Markdown of a docstring by its sections."""
    for section in _list_sections(found):
        if isinstance(section, griffe.DocstringSectionText):
            yield from render_text(section.value)
        elif isinstance(section, griffe.DocstringSectionParameters):
            rows = [(f"`{each.name}`", convert_text(each.description)) for each in section.value]
            yield render_table(("Argument", "Meaning"), rows) + "\n"
        elif isinstance(section, griffe.DocstringSectionAttributes):
            rows = [(f"`{each.name}`", convert_text(each.description)) for each in section.value]
            yield render_table(("Attribute", "Meaning"), rows) + "\n"
        elif isinstance(section, griffe.DocstringSectionReturns):
            yield f"Returns: {' '.join(convert_text(each.description) for each in section.value)}\n"
        elif isinstance(section, griffe.DocstringSectionRaises):
            rows = [(_name_errors(str(each.annotation)), convert_text(each.description)) for each in section.value]
            yield render_table(("Raises", "Condition"), rows) + "\n"
        elif isinstance(section, griffe.DocstringSectionAdmonition):
            yield render_code(section.value.contents)
        else:
            raise TypeError(f"{found.path} has a section of another kind: {section.kind}")


def _name_errors(annotation: str) -> str:
    """Return the names of exceptions as code.

    >>> _name_errors("(TypeError, ValueError)")
    '`TypeError`, `ValueError`'
    """
    return ", ".join(f"`{name}`" for name in re.findall(r"\w+", annotation))


def render_text(text: str) -> Iterator[str]:
    """Yield the Markdown of prose with code between its paragraphs."""
    for block in split_blocks(text):
        yield render_code(block.text) if block.is_code else f"{convert_text(block.text)}\n"


def split_blocks(text: str) -> Iterator[Block]:
    """Split a docstring's text: indented paragraphs and examples are code.

    >>> [tuple(block) for block in split_blocks("Call it:\\n\\n    a()\\n\\n    b()\\n\\nThen wait.")]
    [('Call it:', False), ('a()\\n\\nb()', True), ('Then wait.', False)]
    """
    code: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.strip("\n")):
        if paragraph.startswith(("    ", ">>> ")):
            code.append(re.sub(r"(?m)^    ", "", paragraph) if paragraph.startswith(" ") else paragraph)
            continue
        if code:
            yield Block("\n\n".join(code), is_code=True)
            code = []
        yield Block(paragraph, is_code=False)
    if code:
        yield Block("\n\n".join(code), is_code=True)


def render_code(code: str) -> str:
    """Return a fence with the test that runs it."""
    is_doctest = code.lstrip().startswith(">>>")
    info = f"pycon tested by: {DOCTEST_FILE}" if is_doctest else f"python not run: {SKETCH_REASON}"
    return f"```{info}\n{code.strip()}\n```\n"


def convert_text(text: str) -> str:
    """Return reStructuredText's code and roles as Markdown, in one line for each paragraph or entry.

    >>> convert_text("Calls ``flush()``, see :meth:`~.Tracker.close`\\nand :class:`Tracker`.")
    'Calls `flush()`, see `close` and `Tracker`.'
    """
    text = re.sub(r":\w+:`~?([^`]+)`", lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    text = text.replace("``", "`")
    text = " ".join(text.split())
    return text if text.endswith((".", ":", "!", "?")) else f"{text}."
