"""Pages out of templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import jinja2

from progressbar_tracker.server import dashboard

from .http import Reply, up

if TYPE_CHECKING:
    from .http import Call

HTML: Final = b"text/html; charset=utf-8"

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(dashboard.__file__).parent), autoescape=True, trim_blocks=True,
    lstrip_blocks=True, undefined=jinja2.StrictUndefined,
)  # fmt: skip


def page(call: Call, template: str, status: int = 200, /, **values: object) -> Reply:
    """Return a page.

    Args:
        call: The request.
        template: The name of the template's file.
        status: The HTTP status.
        values: What the template shows; it is given ``up`` and ``operator`` as well.
    """
    operator = call.principal is not None and call.principal.type == "admin"
    return Reply(status, rendered(template, up=up(call.scope), operator=operator, **values), HTML)


def rendered(template: str, **values: object) -> bytes:
    """Return a template with values in its places; what they say is text there, never markup."""
    return _templates.get_template(template).render(**values).encode()


def own_url(call: Call) -> str:
    """Return the URL that a client on another machine would use, by what this browser used."""
    host = call.headers.get(b"host", b"").decode("latin-1")
    return f"{call.scope['scheme']}://{host}{call.services.settings.base_path}"
