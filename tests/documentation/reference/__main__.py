"""Write all pages: ``python -m tests.documentation.reference``."""

from __future__ import annotations

from . import PAGE_RENDERERS, REFERENCE_FOLDER


def main() -> None:
    for name, render in PAGE_RENDERERS.items():
        path = REFERENCE_FOLDER / f"{name}.md"
        text = render()
        state = "is current" if path.exists() and path.read_text("utf-8") == text else "is new"
        path.write_text(text, "utf-8")
        print(f"{path.name} {state}")


if __name__ == "__main__":
    main()
