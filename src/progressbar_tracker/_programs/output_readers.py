"""Turns the matches of the forms into readings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .output_readings import (
    FRONT_PATTERN,
    NUMBER_PATTERN,
    SIZE_PATTERN,
    Reading,
    describe_label,
    make_reading,
    make_size_reading,
    parse_number,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_INNER_COUNT: Final = (
    rf"(?i)(?:\b(?P<word>step|batch|iter\w*):? *)?\[?{FRONT_PATTERN}(?P<done>{NUMBER_PATTERN}) ?/ ?"
    rf"(?P<total>{NUMBER_PATTERN})(?=[\])\s,:])"
)


_TQDM_RATE: Final = r", +(?:[\d.?]+ ?[kMGT]?(?P<unit>B|[a-z]\w*)/s|[\d.?]+s/(?P<inverse>[a-zA-Z]\w*))"


def percent_reader(form: str, *, has_title: bool = False) -> Callable[[re.Match[str]], Reading | None]:
    """Return a reader of the group ``percent``, with the group ``title`` as the name of the phase."""

    def read(match: re.Match[str]) -> Reading | None:
        title = match["title"].strip() if has_title else ""
        done = parse_number(match["percent"].replace(",", "."))
        return make_reading(form, done, 100, "%", label=title, title=title)

    return read


def size_reader(form: str) -> Callable[[re.Match[str]], Reading | None]:
    """Return a reader of all pairs of sizes in the match, as a sum."""
    pairs = re.compile(rf"({NUMBER_PATTERN}) *({SIZE_PATTERN})? ?/ *({NUMBER_PATTERN}) *({SIZE_PATTERN})")
    return lambda match: make_size_reading(form, pairs.findall(match[0]))


def byte_reader(form: str) -> Callable[[re.Match[str]], Reading | None]:
    """Return a reader of the groups ``done`` and ``unit``: bytes without a total."""
    return lambda match: make_reading(form, parse_size(match["done"], match["unit"]), None, "B")


def phase_reader(form: str) -> Callable[[re.Match[str]], Reading | None]:
    """Return a reader of the groups ``title``, ``done`` and ``total``."""

    def read(match: re.Match[str]) -> Reading | None:
        title = match["title"]
        return make_reading(form, int(match["done"]), int(match["total"]), label=title, title=title)

    return read


def read_git(match: re.Match[str]) -> Reading | None:
    """Read a phase of git: its last word is the unit."""
    title = match["title"]
    noun = title.split()[-1]
    unit = noun if noun in ("objects", "deltas", "files", "commits", "refs") else ""
    return make_reading("git", int(match["done"]), int(match["total"]), unit, label=title, title=title)


def read_tqdm(match: re.Match[str]) -> Reading | None:
    """Read a bar of tqdm. Sizes keep the factor of the total, as in ``12.3M/45.6M``; other counts are multiplied."""
    label = describe_label(match.string[: match.start()])
    rate = re.search(_TQDM_RATE, match.string[match.end() :])
    factor, unit = match["t"], (rate["unit"] or rate["inverse"] or "") if rate else ""
    done, total = (parse_size(number, size) for number, size in (match.group("done", "d"), match.group("total", "t")))
    if unit == "B" and factor:
        scale = parse_size("1", factor)
        return make_reading("tqdm", round(done / scale, 3), total / scale, f"{factor}B", label=label)
    return make_reading("tqdm", done, total, unit, label=label)


def read_spark(match: re.Match[str]) -> Reading | None:
    """Read the tasks of all stages in the line."""
    stages = re.findall(r"\[Stage (\d+):[^(\]]*\((\d+) \+ \d+\) / (\d+)\]", match.string)
    title = f"Stage {stages[0][0]}"
    done, total = (sum(int(stage[index]) for stage in stages) for index in (1, 2))
    return make_reading("spark", done, total, "tasks", label=title, title=title)


def read_step(match: re.Match[str]) -> Reading | None:
    """Read the start of a step: the steps before it are done. Of steps from 0, the number is that of the done ones."""
    number, total, word = int(match["done"]), int(match["total"]), match["word"].lower()
    if number > total:
        return None
    title = f"{match['word']} {number}/{total}"
    is_known = word == "epoch" or match.string.startswith(" : ", match.end())  # of a training, or of docker build
    return make_reading(
        "step",
        max(number - 1, 0),
        total,
        f"{word}s",
        label=f"{word} of {total}",
        title=title,
        evidence=1 if is_known else 2,
        is_step=word == "epoch",
    )


def read_levels(match: re.Match[str]) -> Reading | None:
    """Read an epoch and the count inside of it."""
    outer, inner = read_step(match), re.search(_INNER_COUNT, match.string[match.end() :])
    if outer is None or outer.total is None or inner is None:
        return None
    done, total = parse_number(inner["done"]), parse_number(inner["total"])
    if not 0 < total >= done:
        return None
    title = f"{outer.title}, {inner['word'] or ''} {inner['done']}/{inner['total']}".replace("  ", " ")
    done = min(round(outer.completed + done / total, 4), outer.total)
    return make_reading("levels", done, outer.total, outer.unit, label=outer.label, title=title)


def read_catboost(match: re.Match[str]) -> Reading | None:
    """Read the time that has passed and the time that remains."""
    spent, left = (_parse_duration(match[name]) for name in ("spent", "left"))
    return make_reading("catboost", round(100 * spent / (spent + left), 1), 100, "%") if spent + left > 0 else None


def _parse_duration(text: str) -> float:
    """Return the seconds of CatBoost's ``1m 2s``, ``12.3ms`` or ``45us``."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)(us|ms|s|m|h|d)\b", text))


def read_shred(match: re.Match[str]) -> Reading | None:
    """Read a pass, with its share if it is known."""
    done = int(match["done"]) - 1 + int(match["percent"] or 0) / 100
    return make_reading("shred", done, int(match["total"]), "passes", title=f"pass {match['done']}/{match['total']}")


def read_buildkit(match: re.Match[str]) -> Reading | None:
    """Read the start of a step: the steps before it are done."""
    stage = match["stage"] or ""
    return make_reading("buildkit", int(match["done"]) - 1, int(match["total"]), "steps", label=stage, title=stage)


def read_parallel(match: re.Match[str]) -> Reading | None:
    """Read the done jobs of all hosts, and those that are left."""
    done = sum(int(count) for count in re.findall(r"[\w.:@-]+:\d+/(\d+)/\d+%", match.string))
    return make_reading("parallel", done, done + int(match["left"]), "jobs")


def read_imagemagick(match: re.Match[str]) -> Reading | None:
    """Read the rows of an operation."""
    title = f"{match['title']} {match['file']}"
    return make_reading("imagemagick", int(match["done"]), int(match["total"]), "rows", label=title, title=title)


def read_apt(match: re.Match[str]) -> Reading | None:
    """Read the downloads or the installation."""
    title = "Installing" if match["bar"] else "Downloading"
    return make_reading("apt", parse_number(match["percent"] or match["bar"]), 100, "%", label=title, title=title)


def count_reader(form: str, unit: str = "", evidence: int = 1) -> Callable[[re.Match[str]], Reading | None]:
    """Return a reader of the groups ``done`` and ``total``, with the text in front of them as the label."""

    def read(match: re.Match[str]) -> Reading | None:
        label = describe_label(match.string[: match.start()])
        done, total = parse_number(match["done"]), parse_number(match["total"])
        return make_reading(form, done, total, unit, label=label, evidence=evidence)

    return read


def record_reader(form: str, unit: str) -> Callable[[re.Match[str]], Reading | None]:
    """Return a reader of the group ``done``: a count without a total."""
    return lambda match: make_reading(form, int(match["done"]), None, unit)


def read_pacman(match: re.Match[str]) -> Reading | None:
    """Read the package and its share: the packages before it are done."""
    verb = match["verb"]
    title = "Installing" if verb.endswith(("stalling", "grading", "removing")) else verb.capitalize()
    done = round(int(match["done"]) - 1 + int(match["percent"]) / 100, 2)
    return make_reading("pacman", done, int(match["total"]), "packages", label=title, title=title)


def read_maven(match: re.Match[str]) -> Reading | None:
    """Read the start of a module: the modules before it are done."""
    return make_reading("maven", int(match["done"]) - 1, int(match["total"]), "modules")


def read_npm(match: re.Match[str]) -> Reading | None:
    """Read the share of a bar without a number."""
    done = len(match["done"])
    return make_reading("npm", round(100 * done / (done + len(match["rest"]))), 100, "%")
