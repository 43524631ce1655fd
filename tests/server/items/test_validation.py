"""The two readers of bodies: the careful one agrees with every result of the fast one."""

from __future__ import annotations

import itertools
import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.http.json_body import decode_object
from progressbar_tracker.server.items.validation import (
    InvalidOperation,
    is_valid,
    parse_batch_fast,
    parse_legacy,
    parse_legacy_fast,
    parse_write,
    parse_write_fast,
)
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError

ODD_VALUES = [
    None, True, 0, 1, -1, 0.5, 1.0, -0.0, 1.5, 2**53, 2**53 + 1, -(2**53) - 1, 10**400, 1e300, 1e17, -5e-324, "", "a",
    "ü😀", "a\nb", "a\x00", "\ud800", "\u202e", "x" * 20, "x" * 21, "x" * 64, "x" * 65, "x" * 200, "x" * 201,
    "x" * 2000, "x" * 2001, "running", "done", [], {}, {"a": "b"}, {"a": None}, {"a": 1},
]  # fmt: skip
FIELD_NAMES = [
    "id", "title", "description", "value", "completed", "total", "unit", "weight", "status", "error", "group", "parent",
    "meta", "run_id", "seq", "part", "heartbeat_timeout", "ttl", "owner", "rev", "surprise",
]  # fmt: skip
bodies = st.dictionaries(st.sampled_from(FIELD_NAMES), st.sampled_from(ODD_VALUES), max_size=4)


def check_equal(fast: object, careful: object) -> None:
    assert fast == careful
    assert repr(fast) == repr(careful)  # 1 and 1.0 are equal


def without_identity(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in {"id", "op"}}


@given(bodies, st.booleans())
def test_fast_and_careful_reader_agree_on_writes(body: dict[str, object], merge: bool) -> None:
    raw = json.dumps(body).encode()
    fast = parse_write_fast(raw)
    if fast is not None:
        check_equal(
            dict(sorted(without_identity(fast).items())),
            dict(sorted(parse_write(decode_object(raw), merge=merge).items())),
        )


@given(
    st.fixed_dictionaries(
        {name: st.sampled_from(ODD_VALUES) for name in ("id", "title", "description", "value", "weight")}
    )
)
def test_fast_and_careful_reader_agree_on_legacy_bodies(body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    fast = parse_legacy_fast(raw)
    if fast is not None:
        check_equal(dict(sorted(fast.items())), dict(sorted(parse_legacy(decode_object(raw)).items())))


def test_field_in_batch_is_parsed_as_alone() -> None:
    for name, value in itertools.product(FIELD_NAMES, ODD_VALUES):
        ops = parse_batch_fast(json.dumps({"ops": [{"op": "patch", "id": "a", name: value}]}).encode())
        if ops is None or name == "id":
            continue
        (op,) = ops
        if isinstance(op, InvalidOperation):
            with pytest.raises(ProblemError, match=re.escape(op.problem.detail)):
                parse_write({name: value}, merge=True)
        else:
            check_equal(without_identity(op), dict(parse_write({name: value}, merge=True)))


def test_fast_reader_accepts_tracker_writes() -> None:
    op = {"op": "patch", "id": "a", "run_id": "r", "seq": 7, "completed": 3, "description": "c.txt", "total": None}
    ops = parse_batch_fast(json.dumps({"ops": [op]}).encode())
    assert ops == [op]
    assert is_valid(op)
    assert parse_write_fast(b'{"completed": 3, "total": 10, "status": "succeeded"}') is not None
    assert parse_legacy_fast(b'{"id": "a", "title": "t", "description": "", "value": 1, "weight": -5}') is not None


def test_careful_reader_explains_rejected_body() -> None:
    raw = b'{"completed": "three"}'
    assert parse_write_fast(raw) is None
    with pytest.raises(ProblemError, match="completed must be a number, not 'three'"):
        parse_write(decode_object(raw), merge=True)


@given(st.integers(0, 4_000_000_000_000_000).map(lambda micro: micro / 1_000_000))
def test_instant_has_milliseconds(instant: float) -> None:
    assert rfc3339(instant) == datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
