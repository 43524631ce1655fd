"""The two readers of bodies: what the quick one takes, the careful one reads in the same way."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.http.request import decoded_object
from progressbar_tracker.server.items.validation import (
    quick_batch,
    quick_legacy,
    quick_write,
    read_legacy,
    read_write,
    sound,
)
from progressbar_tracker.server.models import rfc3339
from progressbar_tracker.server.problems import ProblemError

ODD = [
    None, True, 0, 1, -1, 0.5, 1.0, -0.0, 1.5, 2**53, 2**53 + 1, -(2**53) - 1, 10**400, 1e300, 1e17, -5e-324, "", "a",
    "ü😀", "a\nb", "a\x00", "\ud800", "\u202e", "x" * 20, "x" * 21, "x" * 64, "x" * 65, "x" * 200, "x" * 201,
    "x" * 2000, "x" * 2001, "running", "done", [], {}, {"a": "b"}, {"a": None}, {"a": 1},
]  # fmt: skip
NAMES = [
    "id", "title", "description", "value", "completed", "total", "unit", "weight", "status", "error", "group", "parent",
    "meta", "run_id", "seq", "part", "heartbeat_timeout", "ttl", "owner", "rev", "surprise",
]  # fmt: skip
bodies = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(ODD), max_size=4)


def same(quick: object, careful: object) -> None:
    assert quick == careful
    assert repr(quick) == repr(careful)  # 1 and 1.0 are equal


def known(fields: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in {"id", "op"}}


@given(bodies, st.booleans())
def test_what_the_quick_reader_takes_of_a_write_the_careful_one_reads_the_same(
    body: dict[str, object], merge: bool
) -> None:
    raw = json.dumps(body).encode()
    quick = quick_write(raw)
    if quick is not None:
        assert read_write(quick, merge=merge, in_order=True) is quick
        same(dict(sorted(known(quick).items())), dict(sorted(read_write(decoded_object(raw), merge=merge).items())))


@given(
    st.fixed_dictionaries({name: st.sampled_from(ODD) for name in ("id", "title", "description", "value", "weight")})
)
def test_what_the_quick_reader_takes_of_part_1_the_careful_one_reads_the_same(body: dict[str, object]) -> None:
    raw = json.dumps(body).encode()
    quick = quick_legacy(raw)
    if quick is not None:
        same(dict(sorted(quick.items())), dict(sorted(read_legacy(decoded_object(raw)).items())))


def test_the_quick_reader_takes_no_field_that_the_careful_one_refuses() -> None:
    for name, value in itertools.product(NAMES, ODD):
        ops = quick_batch(json.dumps({"ops": [{"op": "patch", "id": "a", name: value}]}).encode())
        if ops is not None and sound(ops[0]) and name != "id":
            same(known(ops[0]), dict(read_write({name: value}, merge=True)))


def test_the_quick_reader_takes_what_a_tracker_sends() -> None:
    op = {"op": "patch", "id": "a", "run_id": "r", "seq": 7, "completed": 3, "description": "c.txt", "total": None}
    ops = quick_batch(json.dumps({"ops": [op]}).encode())
    assert ops == [op]
    assert sound(op)
    assert quick_write(b'{"completed": 3, "total": 10, "status": "succeeded"}') is not None
    assert quick_legacy(b'{"id": "a", "title": "t", "description": "", "value": 1, "weight": -5}') is not None


def test_what_it_does_not_take_the_careful_one_explains() -> None:
    raw = b'{"completed": "three"}'
    assert quick_write(raw) is None
    with pytest.raises(ProblemError, match="completed must be a number, not 'three'"):
        read_write(decoded_object(raw), merge=True)


@given(st.integers(0, 4_000_000_000_000_000).map(lambda micro: micro / 1_000_000))
def test_an_instant_is_told_to_the_millisecond(instant: float) -> None:
    assert rfc3339(instant) == datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
