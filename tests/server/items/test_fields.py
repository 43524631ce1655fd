"""The declaration of an item's fields agrees with the shapes and records that are written out."""

from __future__ import annotations

from msgspec.structs import replace

from progressbar_tracker import _models
from progressbar_tracker.server.items import validation
from progressbar_tracker.server.items.fields import COPIED_FIELDS, PUBLIC_FIELDS, WIRE_FIELDS, WRITABLE_FIELDS
from progressbar_tracker.server.items.rules import FIELD_RULES
from progressbar_tracker.server.models import Item
from tests.support.boards import serialize_item

BLANK_ITEM = Item(id="a", owner_id="k", owner="ci", run_id="r", created_at=0.0, updated_at=0.0)


def test_client_shapes_have_declared_fields() -> None:
    assert tuple(_models.Item.__annotations__) == WIRE_FIELDS
    assert set(_models.ItemWrite.__annotations__) == set(WRITABLE_FIELDS)


def test_serialized_item_has_declared_fields_in_order() -> None:
    declared = tuple(name for name in WIRE_FIELDS if name != "stuck_after")
    assert tuple(serialize_item(BLANK_ITEM, 0.0)) == declared


def test_serialized_item_has_stuck_after_unless_automatic() -> None:
    for value in (None, 5.0):
        assert serialize_item(replace(BLANK_ITEM, stuck_after=value), 0.0)["stuck_after"] == value


def test_writable_fields_have_rules() -> None:
    without = {name for name in WRITABLE_FIELDS if _models.ITEM_FIELDS[name].kind not in FIELD_RULES}
    assert without == {"meta", "deadline"}
    assert {"meta", "deadline", "notify", "tail"} == validation._CAREFUL_FIELDS  # the names in is_valid()


def test_copied_fields_are_stored() -> None:
    assert set(COPIED_FIELDS) <= set(Item.__struct_fields__)


def test_share_hides_private_fields() -> None:
    assert not {"owner", "meta", "group", "parent", "run_id", "notify"} & set(PUBLIC_FIELDS)
