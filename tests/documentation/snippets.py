"""The code fences of the handbook: how each one is proved, and its execution.

The first word of a fence's info string is its language. ``file=NAME`` also writes it to the folder of the page, and
``not run: REASON`` or ``tested by: PATH`` leaves it out.
"""

from __future__ import annotations

import ast
import configparser
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml
from markdown_it import MarkdownIt

from progressbar_tracker._config import read_user_config
from progressbar_tracker.server.dashboard.handbook import HANDBOOK_FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT_ROOT: Final = Path(__file__).parents[2]
PAGE_PATHS: Final = sorted(HANDBOOK_FOLDER.rglob("*.md"))
PROGRAM_TIMEOUT: Final = 100.0
"""Seconds after which a snippet is killed."""

EXAMPLE_URLS: Final = ("http://your-server:8989", "http://127.0.0.1:8989", "http://localhost:8989")
EXAMPLE_KEY: Final = "your-api-key"
EXECUTED_LANGUAGES: Final = frozenset({"python", "pycon", "sh", "console"})
VALIDATED_LANGUAGES: Final = frozenset({
    "toml", "json", "yaml", "ini", "nginx", "caddyfile", "dockerfile", "html"
})  # fmt: skip
DOCKERFILE_INSTRUCTIONS: Final = frozenset({
    "FROM", "RUN", "CMD", "LABEL", "EXPOSE", "ENV", "ADD", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR", "ARG",
    "STOPSIGNAL", "HEALTHCHECK", "SHELL",
})  # fmt: skip
VOID_ELEMENTS: Final = frozenset({"img", "br", "hr", "input", "link", "meta", "source"})


class Snippet(NamedTuple):
    """A code fence of a page.

    Attributes:
        path: The page.
        line: The line of the page at which the fence begins.
        info: The info string.
        code: The content.
    """

    path: Path
    line: int
    info: str
    code: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(HANDBOOK_FOLDER)}:{self.line}"

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0].lower()

    @property
    def file_name(self) -> str | None:
        named = re.search(r"\bfile=(\S+)", self.info)
        return named[1] if named else None

    @property
    def reason(self) -> str | None:
        """The reason why the snippet is not run."""
        found = re.search(r"not run:\s*(\S.*)", self.info)
        return found[1] if found else None

    @property
    def tested_by(self) -> str | None:
        """The test that proves the snippet."""
        found = re.search(r"tested by:\s*(\S+)", self.info)
        return found[1] if found else None

    @property
    def kind(self) -> str | None:
        """The proof of the snippet; ``None`` if there is none."""
        if self.reason:
            return "not run"
        if self.tested_by:
            return "tested elsewhere"
        if self.language == "text":
            return "output"
        if self.language in VALIDATED_LANGUAGES or (self.language == "python" and self.file_name):
            return "validated"
        return "executed" if self.language in EXECUTED_LANGUAGES else None


@cache
def read_snippets(path: Path) -> list[Snippet]:
    """Return the fences of a page."""
    tokens = MarkdownIt("commonmark").parse(path.read_text("utf-8"))
    return [
        Snippet(path, (token.map or [0])[0] + 1, token.info.strip(), token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    ]


def count_kinds() -> Counter[str]:
    """Return the number of snippets of each kind."""
    return Counter(str(snippet.kind) for path in PAGE_PATHS for snippet in read_snippets(path))


class PageRunner:
    """Runs the snippets of one page in its own folder.

    Args:
        url: The server that the user's config file names.
        api_key: The key for it.
        folder: The folder of the page.
        environ: The environment with the home of the user.
    """

    def __init__(self, url: str, api_key: str, folder: Path, environ: dict[str, str]) -> None:
        self._url = url
        self._key = api_key
        self._folder = folder
        self._environ = environ

    def run_page(self, path: Path) -> None:
        """Prove each snippet of a page in its order."""
        snippets = [snippet for snippet in read_snippets(path) if snippet.kind in ("executed", "validated")]
        script = ""
        for number, snippet in enumerate(snippets):
            if snippet.file_name:
                target = self._folder / snippet.file_name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(self._fill_in(snippet.code), "utf-8")
            if snippet.kind == "validated":
                SNIPPET_VALIDATORS[snippet.language](snippet, self._folder)
            elif snippet.language == "python":
                is_continued = "continued" in snippet.info.split()
                script = script + "\n" + snippet.code if is_continued else snippet.code
                following = next(
                    (s for s in snippets[number + 1 :] if s.language == "python" and not s.file_name), None
                )
                if following is None or "continued" not in following.info.split():
                    self._run_python(snippet, script)
            elif snippet.language == "pycon":
                self._run_doctest(snippet)
            else:
                self._run_shell(snippet)

    def _fill_in(self, code: str) -> str:
        for url in EXAMPLE_URLS:
            code = code.replace(url, self._url)
        return code.replace(EXAMPLE_KEY, self._key)

    def _run_python(self, snippet: Snippet, script: str) -> None:
        program = self._folder / f"snippet_{snippet.line}.py"
        program.write_text(self._fill_in(script), "utf-8")
        self._run(snippet, [sys.executable, "-W", "error", str(program)])

    def _run_doctest(self, snippet: Snippet) -> None:
        program = self._folder / f"snippet_{snippet.line}.txt"
        program.write_text(self._fill_in(snippet.code), "utf-8")
        self._run(snippet, [sys.executable, "-m", "doctest", "-o", "ELLIPSIS", str(program)])

    def _run_shell(self, snippet: Snippet) -> None:
        code = snippet.code
        if snippet.language == "console":
            code = "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))
        self._run(snippet, ["bash", "-e", "-c", self._fill_in(code)])

    def _run(self, snippet: Snippet, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self._folder, env=self._environ, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=PROGRAM_TIMEOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{snippet} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"


def check_python(snippet: Snippet, _: Path) -> None:
    ast.parse(snippet.code)


def check_json(snippet: Snippet, _: Path) -> None:
    json.loads(snippet.code)


def check_yaml(snippet: Snippet, _: Path) -> None:
    for document in yaml.safe_load_all(snippet.code):
        assert isinstance(document, dict | list), snippet
        if isinstance(document, dict) and {"apiVersion", "kind"} & set(document):  # of Kubernetes
            assert {"apiVersion", "kind", "metadata"} <= set(document), snippet
            assert document["metadata"]["name"], snippet


def check_toml(snippet: Snippet, folder: Path) -> None:
    """Parse it; load a config file or a file with channels by the reader of the package."""
    from progressbar_tracker.server.notifications.channels import read_channels

    table = tomllib.loads(snippet.code)
    path = folder / "checked.toml"
    path.write_text(snippet.code, "utf-8")
    if "channels" in table:
        for channel in table["channels"].values():
            for name in ("url_file", "secret_file", "token_file"):
                if name in channel:
                    text = "https://hooks.example.org/a" if name == "url_file" else "whsec_" + "A" * 32
                    (folder / channel[name]).write_text(text, "utf-8")
        assert [channel.name for channel in read_channels(path)[0]] == list(table["channels"]), snippet
    elif {"url", "api_key"} & set(table):
        read_user_config(path)


def check_ini(snippet: Snippet, folder: Path) -> None:
    """Parse it; verify a unit with systemd's own tool if that is installed."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(snippet.code)
    analyze = shutil.which("systemd-analyze")
    if analyze is None or Path(snippet.file_name or "").suffix not in (".service", ".timer"):
        return
    # The tool looks for the programs, and for the units that a timer names.
    text = re.sub(r"(?m)^(Exec\w+=[-@:+!]*)\S+", rf"\g<1>{shutil.which('true')}", snippet.code)
    unit = folder / "units" / str(snippet.file_name)
    unit.parent.mkdir(exist_ok=True)
    unit.write_text(text, "utf-8")
    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    assert done.returncode == 0, f"{snippet}: {done.stderr}"


def check_nginx(snippet: Snippet, folder: Path) -> None:
    """Check the syntax with nginx; a part of a configuration is put into what surrounds it."""
    nginx = shutil.which("nginx", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))
    if nginx is None:
        check_braces(snippet, folder)
        return
    text = snippet.code
    if not re.search(r"(?m)^\s*(server|http|upstream|map)\b.*\{", text):
        text = f"server {{ listen 80; {text} }}"
    if not re.search(r"(?m)^\s*http\s*\{", text):
        text = f"events {{}}\nhttp {{\n{text}\n}}"
    if "ssl_certificate" in text:
        certificate, key = make_certificate(folder)
        text = re.sub(r"(ssl_certificate)\s+[^;]+;", rf"\1 {certificate};", text)
        text = re.sub(r"(ssl_certificate_key)\s+[^;]+;", rf"\1 {key};", text)
    text = re.sub(r"\blisten\s+(\[::\]:)?\d+", "listen 127.0.0.1:8443", text)
    conf = folder / "checked-nginx.conf"
    conf.write_text(text, "utf-8")
    done = subprocess.run(
        [nginx, "-t", "-p", folder, "-e", "stderr", "-c", conf, "-g", f"pid {folder}/nginx.pid;"],
        capture_output=True, text=True, timeout=PROGRAM_TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 0, f"{snippet}: {done.stderr}"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return a self-signed certificate and its key."""
    certificate, key = folder / "checked.crt", folder / "checked.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=PROGRAM_TIMEOUT,
    )  # fmt: skip
    return certificate, key


def check_caddyfile(snippet: Snippet, folder: Path) -> None:
    """Validate it with Caddy if that is installed."""
    check_braces(snippet, folder)
    caddy = shutil.which("caddy")
    if caddy is None:
        return
    path = folder / "Caddyfile"
    path.write_text(snippet.code, "utf-8")
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    command = [caddy, "adapt", "--config", path, "--adapter", "caddyfile", "--validate"]
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=PROGRAM_TIMEOUT)
    assert done.returncode == 0, f"{snippet}: {done.stderr}"


def check_braces(snippet: Snippet, _: Path) -> None:
    depth = 0
    for character in snippet.code:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0, snippet
    assert depth == 0, snippet


def check_dockerfile(snippet: Snippet, _: Path) -> None:
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", snippet.code))
    instructions = [line.split()[0] for line in text.splitlines() if line.strip()]
    assert set(instructions) <= DOCKERFILE_INSTRUCTIONS, snippet


class _BalanceParser(html.parser.HTMLParser):
    """Checks that elements are closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag


def check_html(snippet: Snippet, _: Path) -> None:
    parser = _BalanceParser()
    parser.feed(snippet.code)
    parser.close()
    assert parser.open == [], snippet


SNIPPET_VALIDATORS: Final[dict[str, Callable[[Snippet, Path], None]]] = {
    "python": check_python, "json": check_json, "yaml": check_yaml, "toml": check_toml, "ini": check_ini,
    "nginx": check_nginx, "caddyfile": check_caddyfile, "dockerfile": check_dockerfile, "html": check_html,
}  # fmt: skip
