"""Everything that follows from the declaration of an item's fields in ``_models``, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict

from progressbar_tracker._models import ITEM_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping

WIRE_FIELDS: Final = tuple(name for name, field in ITEM_FIELDS.items() if field.is_shown)
"""The fields of an item in a response."""

OPTIONAL_FIELDS: Final = frozenset({"stuck_after"})
"""The fields that a response lacks if they have their default, which is neither a value nor null."""

WRITABLE_FIELDS: Final = tuple(name for name, field in ITEM_FIELDS.items() if field.write is not None)
"""The fields that a client may write, besides the id."""

COPIED_FIELDS: Final = frozenset(
    field.stored_as or name for name, field in ITEM_FIELDS.items() if field.write == "copy"
)
"""The stored fields that a write replaces as they are."""

PUBLIC_FIELDS: Final = tuple(name for name, field in ITEM_FIELDS.items() if field.is_public)
"""The fields of an item that a share shows: not the owner, the host or the command."""

PUBLIC_GROUP_FIELDS: Final = (*PUBLIC_FIELDS, "parent")
"""The fields that the share of a group shows: its page has inner bars below the bars that they are part of."""


LEGACY_FIELDS: Final = ("id", "title", "description", "value", "weight")
"""The fields of part 1 of the protocol."""


def build_shape(
    name: str, required: Mapping[str, object], optional: Mapping[str, object] | None = None, *, doc: str | None = None
) -> Any:
    """Return a ``TypedDict`` for msgspec; mypy sees the static shapes of ``_models`` instead.

    Args:
        name: The name of the class.
        required: The types of the keys that must be present.
        optional: The types of the keys that may be absent.
        doc: The docstring, which becomes the schema's description.
    """
    absent = {key: NotRequired[type] for key, type in (optional or {}).items()}
    make: Any = TypedDict
    shape = make(name, {**required, **absent})
    shape.__doc__ = doc
    return shape
