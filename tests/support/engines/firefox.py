"""Firefox, by puppeteer-core and WebDriver BiDi, in a process of Node that ``firefox.js`` describes."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from . import Engine, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE_FOLDER = Path(__file__).parents[3] / ".ci"
PROGRAM_NAMES = ("firefox-esr", "firefox")


class FirefoxEngine(Engine):
    """A Firefox with a new profile.

    Args:
        preferences: Additional ones, by their name in ``about:config``.
    """

    name = "firefox"

    def __init__(self, preferences: Mapping[str, object] | None = None) -> None:
        program = next(filter(None, map(shutil.which, PROGRAM_NAMES)), None)
        node = shutil.which("node")
        if program is None or node is None:
            raise MissingProgramError("needs Firefox and Node: install Debian's firefox-esr and nodejs")
        if not (PACKAGE_FOLDER / "node_modules" / "puppeteer-core").exists():
            raise MissingProgramError("needs puppeteer-core: install it with npm ci --prefix .ci")
        self._process = subprocess.Popen(
            [
                node, Path(__file__).with_suffix(".js"), PACKAGE_FOLDER / "package.json", program,
                json.dumps(preferences or {}),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        self._read_answer()

    def _read_answer(self) -> object:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the driver of Firefox ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("value")

    def _call(self, command: str, *arguments: str) -> object:
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return self._read_answer()

    def open(self, url: str) -> None:
        self._call("open", url)

    def evaluate(self, expression: str) -> object:
        return self._call("evaluate", expression)

    def click(self, selector: str) -> None:
        self._call("click", selector)

    def type(self, selector: str, text: str) -> None:
        self._call("type", selector, text)

    def press(self, key: str) -> None:
        self._call("press", key)

    def take_screenshot(self) -> bytes:
        return base64.b64decode(str(self._call("takeScreenshot")))

    def clear_cookies(self) -> None:
        self._call("clearCookies")

    def close(self) -> None:
        with self._process:
            self._process.stdin.close()  # the driver closes Firefox and ends
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
