"""The version, also where the package is not installed but in a zip file. ``pyproject.toml`` reads it from here."""

from __future__ import annotations

from typing import Final

VERSION: Final = "2.0.0.dev0"
