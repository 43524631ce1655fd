"""The language rules of ``.github/CONTRIBUTING.md`` as checks: ``python -m tests.support.language PATH...``.

Prose is what people read: docstrings, comments, and string literals of several words. Code in backticks, examples and
URLs are left out. Identifiers are the names that a file defines, not the names of other APIs that it calls.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_MEAN_WORDS: Final = 15.0
"""The longest mean sentence of a folder."""

MAX_SENTENCE_WORDS: Final = 40
"""The longest sentence. The rule says 25; a list of conditions may need more."""

BANNED_PROSE: Final = re.compile(
    r"\b(everybody|tell|tells|telling|told|whoever|whomever|nobody|somebody|anybody|anew|in vain|mends?|mended|mending"
    r"|spelled|spelt|spells?|sees? to it|come by|comes by|by itself|by themselves|of which|for ever|is none of"
    r"|shall|betimes|whence|thereof|the like)\b",
    re.IGNORECASE,
)
"""Words and phrases that a reader outside the project stumbles over."""

BANNED_OPENINGS: Final = re.compile(r"^(Who|Whoever|What|Whatever|Nobody|Somebody|Others|Of who|Of what)\b(?!.*\?$)")
"""Sentences whose subject is not a noun of the system."""

BANNED_NAME_PARTS: Final = frozenset({
    "told", "tell", "tells", "telling", "whoever", "nobody", "somebody", "anybody", "anew", "mend", "mended", "spelled",
    "farewell", "betimes", "vain",
})  # fmt: skip
"""Words that no identifier of ours contains."""

MAX_TEST_NAME_LENGTH: Final = 60
"""Characters of the name of a test function."""

FOREIGN_NAMES: Final = frozenset({"tell"})
"""Methods that implement an interface of others: ``io.IOBase.tell``."""

STANDARD_CONSTANTS: Final = frozenset({
    "VERSION", "DEBUG", "INFO", "WARNING", "ERROR", "HANG", "LATE", "SILENT", "RESET", "NOW", "ROUTES", "MIGRATIONS",
    "README", "ROOT", "BIN",
})  # fmt: skip
"""Module constants of one word that are terms of the field, or members of an enumeration."""

_WORD_PATTERN: Final = re.compile(r"[A-Za-z][\w'-]*")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z`\"(@])")
_CODE_PATTERN: Final = re.compile(r"```.*?```|``[^`]*``|`[^`]*`|:\w+:`[^`]*`|https?://\S+|<[^>]+>|\{[^}]*\}", re.DOTALL)
_ENTRY_PATTERN: Final = re.compile(r"(?m)^\s*[\w*, .]+(?: \([^)]*\))?:(?=\s)")


class Finding(NamedTuple):
    """One place that breaks a rule."""

    path: Path
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


class Sentence(NamedTuple):
    """A sentence with the line that its block begins in."""

    line: int
    text: str

    @property
    def words(self) -> int:
        """The number of words."""
        return len(_WORD_PATTERN.findall(self.text))


def split_sentences(line: int, block: str) -> Iterator[Sentence]:
    """Split a block of prose into sentences, without its code.

    >>> [sentence.text for sentence in split_sentences(1, "Flush ``now``. Then close.")]
    ['Flush X.', 'Then close.']
    """
    lines = [text for text in block.splitlines() if not re.match(r"\s*(>>>|\.\.\. |\||---)", text)]
    text = _ENTRY_PATTERN.sub(lambda found: "\n\n" if "\n" in found[0] or found.start() else "", "\n".join(lines))
    text = _CODE_PATTERN.sub("X", text)
    for paragraph in re.split(r"\n\s*\n|\n\s*(?=[-*] )", text):
        flat = " ".join(paragraph.split())
        for sentence in _SENTENCE_END.split(flat):
            if len(_WORD_PATTERN.findall(sentence)) >= 2:
                yield Sentence(line, sentence)


def read_python(text: str) -> Iterator[Sentence]:
    """Yield the sentences of docstrings, comments and messages of a Python file."""
    tree = ast.parse(text)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    in_format = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in in_format:
            if id(node) in docstrings or _is_message(node.value):
                yield from split_sentences(node.lineno, node.value)
        elif isinstance(node, ast.JoinedStr):
            joined = "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
            if _is_message(joined):
                yield from split_sentences(node.lineno, joined)
    block: list[str] = []
    begun = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT or re.match(r"#\s*(noqa|fmt|type|pragma|!|---)", token.string):
            continue
        follows_code = bool(token.line[: token.start[1]].strip())
        if token.start[0] != last + 1 or follows_code:
            yield from split_sentences(begun, "\n".join(block))
            block, begun = [], token.start[0]
        block.append(token.string.lstrip("# ").partition("  # noqa")[0])
        last = 0 if follows_code else token.start[0]
    yield from split_sentences(begun, "\n".join(block))


def _is_message(text: str) -> bool:
    """Say whether a literal is a text for people: words in a row, no program, no markup."""
    if "\n" in text or re.search(r"[<>{}=|\\]|\bSELECT\b|\bINSERT\b|\bUPDATE\b|\bCREATE\b|\bimport\b", text):
        return False
    return bool(re.search(r"[a-z]{2,} [a-z]{2,} [a-z]{2,}", text))


@cache
def read_sentences(path: Path) -> list[Sentence]:
    """Return the sentences of a file by its kind; none for kinds without prose."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        return list(read_python(text))
    if path.suffix == ".md":
        return list(split_sentences(1, re.sub(r"(?ms)^```.*?^```", "", text)))
    if path.suffix in (".js", ".css"):
        comments = re.finditer(r"(?ms)/\*(.*?)\*/|(?:^\s*//[^\n]*\n)+", text)
        return [
            sentence
            for found in comments
            for sentence in split_sentences(
                text.count("\n", 0, found.start()) + 1, re.sub(r"(?m)^\s*(//|\*)\s?", "", found[1] or found[0])
            )
        ]
    if path.suffix in (".html", ".jinja"):
        shown = re.sub(r"(?s)\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}|<(script|style)\b.*?</\1>", "X", text)
        return list(split_sentences(1, re.sub(r"<[^>]+>", "\n\n", shown)))
    return []


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the names that a module defines: classes, functions, parameters, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def module_constants(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the module constants of a module: names in capitals that it assigns."""
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            for name in ast.walk(target):
                if isinstance(name, ast.Name) and re.fullmatch(r"_?[A-Z][A-Z0-9_]+", name.id):
                    yield node.lineno, name.id


def find_violations(path: Path) -> Iterator[Finding]:
    """Yield each place of a file that breaks a rule."""
    for sentence in read_sentences(path):
        for found in BANNED_PROSE.finditer(sentence.text):
            yield Finding(path, sentence.line, f"banned word {found[0]!r}", sentence.text)
        if BANNED_OPENINGS.match(sentence.text):
            yield Finding(path, sentence.line, "the subject is no noun of the system", sentence.text)
        if sentence.words > MAX_SENTENCE_WORDS:
            yield Finding(path, sentence.line, f"{sentence.words} words", sentence.text)
    if path.suffix == ".py":
        tree = ast.parse(path.read_text("utf-8"))
        for line, name in defined_names(tree):
            if name not in FOREIGN_NAMES and BANNED_NAME_PARTS.intersection(name.lower().strip("_").split("_")):
                yield Finding(path, line, "private word in a name", name)
        for line, name in module_constants(tree):
            if "_" not in name.strip("_") and name.strip("_") not in STANDARD_CONSTANTS:
                yield Finding(path, line, "a constant of one word", name)
        for node in ast.walk(tree):
            is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
            if is_test and len(node.name) > MAX_TEST_NAME_LENGTH:
                yield Finding(path, node.lineno, f"a test name of {len(node.name)} characters", node.name)


def mean_words(paths: Iterable[Path]) -> float:
    """Return the mean number of words of a sentence over some files; 0 without sentences."""
    counts = [sentence.words for path in paths for sentence in read_sentences(path)]
    return sum(counts) / len(counts) if counts else 0.0


def expand_paths(paths: Iterable[Path]) -> list[Path]:
    """Return files, and of folders all files whose kind has prose."""
    kinds = {".py", ".md", ".js", ".css", ".html", ".jinja"}
    return [
        found
        for path in paths
        for found in ([path] if path.is_file() else sorted(path.rglob("*")))
        if found.suffix in kinds and not {"__pycache__", "node_modules"}.intersection(found.parts)
    ]


def main(arguments: list[str]) -> int:
    """Print the findings of some paths and the mean length of their sentences."""
    paths = expand_paths(map(Path, arguments))
    findings = [finding for path in paths for finding in find_violations(path)]
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings in {len(paths)} files; {mean_words(paths):.1f} words a sentence")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
