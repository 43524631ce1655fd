"""Runs the handbook's code, and checks its pages, links and completeness."""

from __future__ import annotations

import functools
import itertools
import os
import posixpath
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from markdown_it import MarkdownIt

from progressbar_tracker import cli
from progressbar_tracker._config import read_user_config
from progressbar_tracker.server.dashboard.handbook import HANDBOOK_FOLDER, PART_TITLES, read_pages
from progressbar_tracker.server.dashboard.markdown import render_markdown
from progressbar_tracker.server.metrics import METRIC_DEFINITIONS
from progressbar_tracker.server.problems import PROBLEM_CODES
from progressbar_tracker.server.routes import ROUTES

from .reference import PAGE_RENDERERS, REFERENCE_FOLDER
from .reference.commands import iterate_commands
from .reference.python import list_public_names
from .snippets import PAGE_PATHS, PROJECT_ROOT, PageRunner, Snippet, count_kinds, read_snippets

RESERVED_ANCHORS = {"main", "handbook-search", "search-results", "search-status"}
"""Ids of the page around the text."""

IMAGE_SUFFIXES = {".png", ".svg"}


def page_name(path):
    return str(path.relative_to(HANDBOOK_FOLDER).with_suffix(""))


@functools.cache
def render_page(path):
    return render_markdown(path.read_text("utf-8"), lambda link: link)


HANDBOOK_TEXT = "\n".join(path.read_text("utf-8") for path in PAGE_PATHS)
every_page = pytest.mark.parametrize("path", PAGE_PATHS, ids=page_name)
EXECUTABLE_PAGES = [
    path for path in PAGE_PATHS if any(snippet.kind in ("executed", "validated") for snippet in read_snippets(path))
]


# ---------------------------------------------------------------- snippets


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The environment of a reader who has started ``serve``: its config file and database are in the home folder."""
    home = tmp_path_factory.mktemp("home")
    environ = {name: text for name, text in os.environ.items() if not name.startswith(("PROGRESSBAR_", "ADMIN_"))}
    environ |= {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "NO_PROXY": "*",
    }
    command = [sys.executable, "-m", "progressbar_tracker", "serve", "--port", "0"]
    server = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
    try:
        for line in server.stdout:
            if line.startswith("Serving on"):
                break
        config = read_user_config(home / ".config" / "progressbar-tracker" / "config.toml")
        yield config, environ
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("path", EXECUTABLE_PAGES, ids=page_name)
def test_snippets_of_page_run_as_written(path, reader, tmp_path):
    config, environ = reader
    PageRunner(config.url, config.api_key, tmp_path, environ).run_page(path)


def test_every_snippet_has_a_kind():
    kinds = count_kinds()
    print("snippets:", ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    assert [str(snippet) for path in PAGE_PATHS for snippet in read_snippets(path) if snippet.kind is None] == []


def test_tests_that_snippets_name_exist():
    named = {snippet.tested_by for path in PAGE_PATHS for snippet in read_snippets(path)} - {None}
    assert [name for name in named if not (PROJECT_ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        ("python", "executed"), ("python continued", "executed"), ("python file=a.py", "validated"), ("sh", "executed"),
        ("sh not run: changes the machine", "not run"), ("sh not run:", "executed"), ("text", "output"),
        ("pycon tested by: tests/a.py", "tested elsewhere"), ("", None), ("ruby", None),
    ],
)  # fmt: skip
def test_info_string_determines_the_kind(info, kind):
    assert Snippet(HANDBOOK_FOLDER, 1, info, "").kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "```python\nraise ValueError\n```", "```sh\nfalse\n```", "```json\n{\n```", "```nginx\nlocation / {\n```",
        "```python file=a.py\nif\n```", '```toml\n[channels.a]\nurl = "nothing"\n```', "```pycon\n>>> 1\n2\n```",
        "```html\n<p><b></p>\n```", "```yaml\nkind: Pod\n```", "```dockerfile\nGO on\n```",
    ],
)  # fmt: skip
def test_wrong_snippet_is_found(text, tmp_path):
    path = tmp_path / "page.md"
    path.write_text(text)
    environ = {**os.environ, "HOME": str(tmp_path)}
    with pytest.raises(Exception):  # noqa: B017 - each tool has its own
        PageRunner("http://localhost:1", "key", tmp_path, environ).run_page(path)


# ---------------------------------------------------------------- pages and links


@every_page
def test_page_has_one_title_and_begins_with_its_result(path):
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text("utf-8"))
    titles = [token for token in tokens if token.type == "heading_open" and token.tag == "h1"]
    assert (len(titles), tokens[0]) == (1, titles[0])
    assert tokens[3].type == "paragraph_open"
    levels = [int(token.tag[1:]) for token in tokens if token.type == "heading_open"]
    assert all(level <= former + 1 for former, level in itertools.pairwise(levels)), levels
    assert not [token for token in tokens for part in [token, *(token.children or ())] if part.type.startswith("html")]


def find_broken_links(path):
    document = render_page(path)
    for link in document.links:
        file, _, anchor = link.partition("#")
        if re.match(r"https?://", link):
            continue
        target = path if not file else Path(posixpath.normpath(path.parent / file))
        if target.suffix in IMAGE_SUFFIXES:
            is_valid = target.is_file() and target.parent == HANDBOOK_FOLDER / "images"
        else:
            is_valid = target in PAGE_PATHS and (
                not anchor or anchor in {heading.anchor for heading in render_page(target).headings}
            )
        if not is_valid:
            yield link


@every_page
def test_links_of_page_lead_to_pages_and_headings(path):
    assert list(find_broken_links(path)) == []


@every_page
def test_anchors_of_page_are_unique(path):
    anchors = [heading.anchor for heading in render_page(path).headings]
    assert len(anchors) == len(set(anchors))
    assert RESERVED_ANCHORS.isdisjoint(anchors)


def test_every_page_is_in_the_index_by_its_part():
    listed = [page.path for page in read_pages()]
    assert sorted(listed) == sorted(page_name(path).removesuffix("index") for path in PAGE_PATHS)
    assert {path.partition("/")[0] for path in listed if path} <= set(PART_TITLES)
    parts = [path.partition("/")[0] for path in listed if path]
    assert parts == sorted(parts, key=list(PART_TITLES).index)


@every_page
def test_images_of_page_have_a_description(path):
    tokens = MarkdownIt("commonmark").parse(path.read_text("utf-8"))
    images = [child for token in tokens for child in token.children or () if child.type == "image"]
    assert [image.attrs["src"] for image in images if not image.content] == []


# ---------------------------------------------------------------- generated pages


@pytest.mark.parametrize("name", PAGE_RENDERERS)
def test_reference_page_is_current(name):
    """``python -m tests.documentation.reference`` writes the pages."""
    assert (REFERENCE_FOLDER / f"{name}.md").read_text("utf-8") == PAGE_RENDERERS[name]()


def test_every_reference_page_is_generated():
    assert {path.stem for path in REFERENCE_FOLDER.glob("*.md")} == set(PAGE_RENDERERS)


# ---------------------------------------------------------------- completeness


def test_every_environment_variable_is_documented():
    package = HANDBOOK_FOLDER.parent
    text = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    known = set(re.findall(r"\"((?:PROGRESSBAR|ADMIN)_[A-Z_]+[A-Z])\"", text))
    assert {"PROGRESSBAR_URL", "PROGRESSBAR_HOST", "ADMIN_PASSWORD"} <= known
    assert {name for name in known if f"`{name}`" not in HANDBOOK_TEXT} == set()


def test_every_command_and_option_is_documented():
    commands = dict(iterate_commands(cli.commands))
    text = (REFERENCE_FOLDER / "commands.md").read_text("utf-8")
    assert {"serve", "keys create", "ls"} <= set(commands)
    assert [name for name in commands if f"## {name}\n" not in text] == []
    options = {
        name
        for command in commands.values()
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
        for name in option.opts
    }
    assert {"--port", "--json", "--bytes"} <= options
    assert [option for option in sorted(options) if not re.search(rf"`{option}[ `,]", text)] == []


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("errors", list(PROBLEM_CODES)),
        ("metrics", [metric.name for metric in METRIC_DEFINITIONS]),
        ("http", [route.path.replace(":path", "") for route in ROUTES if not route.is_page and "api" in route.path]),
        ("python", [name for name in list_public_names() if not name.endswith(("Error", "Warning"))]),
        ("errors", [name for name in list_public_names() if name.endswith(("Error", "Warning"))]),
    ],
    ids=["problems", "metrics", "routes", "names", "exceptions"],
)
def test_every_name_of_the_interface_is_documented(page, names):
    text = (REFERENCE_FOLDER / f"{page}.md").read_text("utf-8")
    assert names
    assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []
