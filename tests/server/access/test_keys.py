from __future__ import annotations

import re

import pytest

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.access.authorization import identify
from progressbar_tracker.server.access.keys import Keyring
from progressbar_tracker.server.problems import ProblemError


@pytest.mark.parametrize("type", ["read", "write", "admin"])
def test_key_contains_its_type_and_public_id(type: str) -> None:
    key = keys.new_key(type, "ci", 0.0)
    assert re.fullmatch(rf"pbt_{type[0]}_{key.record.key_id}_[A-Za-z0-9_-]{{43}}", key.secret)


def test_key_of_a_cell_begins_with_its_name_and_keeps_it() -> None:
    key = keys.new_key("write", "ci", 0.0, cell="c1")
    assert re.fullmatch(r"pbt_w_c1-[a-z2-9]{8}_[A-Za-z0-9_-]{43}", key.secret)
    rotated = keys.rotate_key(key.record, 1.0)
    assert rotated.secret.startswith(f"pbt_w_{key.record.key_id}_")
    assert Keyring([rotated.record]).find(rotated.secret, 2.0) == rotated.record


@pytest.mark.parametrize("cell", ["", "C1", "c-1", "c_1", "c1\n", "c" * 17, 1])
def test_invalid_name_of_a_cell_is_refused(cell: object) -> None:
    with pytest.raises(FieldError, match="cell"):
        keys.new_key("write", "ci", 0.0, cell=cell)


def test_keys_are_unique() -> None:
    created = [keys.new_key("write", "ci", 0.0) for _ in range(50)]
    assert len({key.secret for key in created}) == len({key.record.key_id for key in created}) == 50


def test_record_and_reprs_do_not_contain_the_secret() -> None:
    key = keys.new_key("write", "ci", 0.0)
    tail = key.secret[-43:]
    assert tail not in repr(key)
    assert key.record.hash not in repr(key.record)
    assert not any(tail in str(getattr(key.record, field)) for field in key.record.__struct_fields__)


def test_keyring_finds_a_key_by_its_whole_secret_only() -> None:
    key = keys.new_key("write", "ci", 0.0)
    ring = Keyring([key.record])
    assert ring.find(key.secret, 1.0) == key.record
    for wrong in ("", key.secret[:-1] + "!", key.secret[:-1], key.secret + "x", key.record.key_id, "\xff", "ключ"):
        assert ring.find(wrong, 1.0) is None


def test_rotated_key_works_with_both_secrets_for_a_day() -> None:
    old = keys.new_key("write", "ci", 0.0)
    new = keys.rotate_key(old.record, 100.0)
    ring = Keyring([new.record])
    assert new.record.key_id == old.record.key_id
    assert ring.find(new.secret, 1e9) == ring.find(old.secret, 100.0 + keys.ROTATION_GRACE_SECONDS - 1) == new.record
    assert ring.find(old.secret, 100.0 + keys.ROTATION_GRACE_SECONDS) is None


def test_ended_key_gets_the_reason() -> None:
    key = keys.new_key("write", "ci", 0.0, expires_at=10.0)
    ring = Keyring([key.record])
    assert identify(ring, key.secret, 9.0).name == "ci"
    with pytest.raises(ProblemError, match="has expired"):
        identify(ring, key.secret, 10.0)
    ring.add(keys.revoke_key(key.record, 5.0))
    with pytest.raises(ProblemError, match="was revoked"):
        identify(ring, key.secret, 6.0)
    with pytest.raises(ProblemError, match="does not know"):
        identify(ring, "pbt_w_unknown", 6.0)


def test_imported_key_keeps_its_id_when_replaced() -> None:
    first = keys.import_key("a secret from outside, long", 0.0, None)
    ring = Keyring([first])
    assert ring.find("a secret from outside, long", 1.0) == first
    second = keys.import_key("another secret from outside", 1.0, first)
    ring.add(second)
    assert second.key_id == first.key_id
    assert ring.find("another secret from outside", 1.0) == second
    assert ring.find("a secret from outside, long", 1.0) is None


def test_keyring_knows_the_last_admin_key() -> None:
    admin, other = keys.new_key("admin", "a", 0.0), keys.new_key("admin", "b", 0.0, expires_at=10.0)
    ring = Keyring([admin.record, other.record, keys.new_key("write", "w", 0.0).record])
    assert not ring.is_last_admin(admin.record.key_id, 5.0)
    assert ring.is_last_admin(admin.record.key_id, 10.0)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "root"}, "type"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"expires_at": 0.0}, "expires_at"),
        ({"expires_at": float("nan")}, "expires_at"),
        ({"group": "g" * 201}, "group"),
    ],
)
def test_invalid_key_is_not_created(fields: dict[str, object], field: str) -> None:
    with pytest.raises(FieldError) as error:
        keys.new_key(**{"type": "write", "name": "ci", "now": 1.0, **fields})
    assert error.value.field == field
