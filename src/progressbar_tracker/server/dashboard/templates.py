"""Pages out of templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import jinja2

from progressbar_tracker.server.access.authorization import GUEST
from progressbar_tracker.server.http.response import Reply, refusal, up

if TYPE_CHECKING:
    from starlette.types import Scope

    from progressbar_tracker.server.http.request import Call
    from progressbar_tracker.server.problems import ProblemError

HTML: Final = b"text/html; charset=utf-8"

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True,
    lstrip_blocks=True, undefined=jinja2.StrictUndefined,
)  # fmt: skip


def page(call: Call, template: str, status: int = 200, /, **values: object) -> Reply:
    """Return a page.

    Args:
        call: The request.
        template: The name of the template's file.
        status: The HTTP status.
        values: What the template shows; it is given ``up`` as well, ``operator`` if who looks is an admin, and as
            ``who`` the name of who is signed in.
    """
    asker = None if call.principal is None or call.principal.id == GUEST else call.principal
    operator = asker is not None and asker.type == "admin"
    who = None if asker is None else asker.name
    values = {"up": up(call.scope), "operator": operator, "who": who, "painted": None, **values}
    return Reply(status, rendered(template, **values), HTML)


def refused(scope: Scope, problem: ProblemError) -> Reply:
    """Tell a problem: a browser on a page, and a program as a document."""
    reply = refusal(problem)
    if b"text/html" not in dict(scope["headers"]).get(b"accept", b"").lower():
        return reply
    document = problem.document()
    detail = document["detail"]
    body = rendered(
        "problem.html", up=up(scope), painted=None, told=document["title"], detail=f"{detail[:1].upper()}{detail[1:]}."
    )
    return Reply(reply.status, body, HTML, reply.headers)


def rendered(template: str, **values: object) -> bytes:
    """Return a template with values in its places; what they say is text there, never markup."""
    return _templates.get_template(template).render(**values).encode()


def painted(call: Call) -> str:
    """Return which state of the board this is, as the ids of events tell it: no script shall put an older one there."""
    return f"{call.services.boot_id}-{call.services.rev}"


def own_url(call: Call) -> str:
    """Return the URL that a client on another machine would use, by what this browser used."""
    host = call.headers.get(b"host", b"").decode("latin-1")
    return f"{'https' if call.secure else 'http'}://{host}{call.services.settings.base_path}"
