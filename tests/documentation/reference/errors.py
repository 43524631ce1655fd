"""The page of the errors: the exceptions of the package, and the problems of the server with their remedies."""

from __future__ import annotations

import inspect

import progressbar_tracker
from progressbar_tracker import _errors
from progressbar_tracker._http.messages import Reply, Request, error_from_reply
from progressbar_tracker.server.problems import PROBLEM_CODES, PROBLEM_REMEDIES, ProblemCode

from .markdown import render_table

HEAD_TEXT = """\
# Errors

Each error has a code, a status and a remedy. The explicit client raises an exception for it. The command line prints
one line and exits with 1, and the server answers with a problem document. The tracker never raises: it logs the text.

## Exceptions of the client

All of them are in `progressbar_tracker`, and `except ProgressBarError` catches all.

```text
{tree}
```

`ResponseError` has the attributes `status_code`, `code`, `detail`, `retry_after` and `request_id`. `TransportError` has
`method` and `url`. No message, representation or traceback contains a key.

{exceptions}

## Problems of the server

A refused request gets a JSON document of the media type `application/problem+json` (RFC 9457). The last part of its
`type` is the code, `detail` is the reason, and `field` names an invalid field. `/problems/CODE` of a server shows the
same text as this page. A code keeps its meaning in all versions.

```json
{{"type": "/problems/item-not-found", "title": "No item has this id", "status": 404, "detail": "there is no item"}}
```

{overview}
"""


def render_page() -> str:
    exceptions = render_table(
        ("Exception", "Meaning"),
        [
            (f"`{name}`", (inspect.getdoc(getattr(progressbar_tracker, name)) or "").partition("\n")[0])
            for name in sorted(_errors.__all__)
        ],
    )
    overview = render_table(
        ("Code", "Status", "Meaning"),
        [(f"[`{code}`](#{code})", str(status), meaning) for code, (status, meaning) in PROBLEM_CODES.items()],
    )
    head = HEAD_TEXT.format(tree=_read_tree(), exceptions=exceptions, overview=overview)
    return head + "\n" + "\n".join(_render_problem(code) for code in PROBLEM_CODES)


def _read_tree() -> str:
    """Return the tree of the exceptions, as the docstring of the module draws it."""
    doc = inspect.getdoc(_errors) or ""
    _, _, rest = doc.partition("\n\n")
    return inspect.cleandoc(rest.partition("\n\n")[0])


def _render_problem(code: ProblemCode) -> str:
    status, meaning = PROBLEM_CODES[code]
    raised = _raised_exception(code, status)
    return f"### {code}\n\n{meaning}. Status {status}; the client raises `{raised}`.\n\n{PROBLEM_REMEDIES[code]}\n"


def _raised_exception(code: str, status: int) -> str:
    """Return the name of the exception that the client raises for a problem, as it does for a response."""
    method = "POST" if code == "item-exists" else "PUT"
    reply = Reply(status, {}, f'{{"type": "/problems/{code}"}}'.encode())
    return type(error_from_reply(reply, Request(method, "api/v1/items/a"))).__name__
