"""Decode JSON bodies of requests."""

from __future__ import annotations

import json

import msgspec

from progressbar_tracker.server.problems import ProblemError

_decode = msgspec.json.Decoder().decode


def decode_json(body: bytes) -> object:
    """Decode a JSON body.

    Raises:
        ProblemError: ``malformed-json``.
    """
    try:
        return _decode(body)
    except RecursionError:
        raise ProblemError("malformed-json", "the body is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    # msgspec rejects NaN, 1e999 and lone surrogates without naming the field. The lenient parser accepts them, and the
    # validation of the field names it.
    try:
        document: object = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise ProblemError("malformed-json", "the body is not valid JSON in UTF-8") from None
    return document


def decode_object(body: bytes) -> dict[str, object]:
    """Decode a body that must be a JSON object.

    Raises:
        ProblemError: ``malformed-json`` or ``bad-request``.
    """
    document = decode_json(body)
    if not isinstance(document, dict):
        raise ProblemError("bad-request", "the body must be a JSON object")
    return document
