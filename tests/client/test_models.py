"""The field rules, which client and server share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker._models import (
    KEY_PERMISSIONS,
    MAX_META_ENTRIES,
    MAX_META_LENGTH,
    NUMBER_LIMIT,
    FieldError,
    FieldTypeError,
    KeyInfo,
    check_id,
    check_meta,
    check_number,
    check_seconds,
    check_text,
    check_value,
    check_weight,
    compute_fraction,
    format_value,
    has_control,
    is_complete,
)

NAN_VALUE, INFINITE_VALUE = math.nan, math.inf
HUGE_NUMBER = 10**5000  # str() raises for it
CONTROL_CHARACTERS = ["\x00", "\x1b", "\x1f", "\x7f", "\x80", "\x9f", "\n", "\t", "\r", "\ud800", "\udfff"]
VALID_TEXTS = [
    "",
    " ",
    "a b",
    "\u00a0",
    "\u00ad",
    "ü",
    "日本語",
    "مرحبا",
    "\u202e",
    "😀",
    "👩\u200d🚀",
    "\u2028",
    "\ufeff",
    "../?#%",
]

numbers = st.integers(-(2**53), 2**53) | st.floats(-NUMBER_LIMIT, NUMBER_LIMIT)


class UnprintableValue:
    """Raises in ``repr()``."""

    def __repr__(self):
        raise RuntimeError("no")


def get_field_error(check, *args, **options):
    """Return the FieldError that a check raises."""
    with pytest.raises(FieldError) as caught:
        check(*args, **options)
    return caught.value


# ---------------------------------------------------------------- text


@pytest.mark.parametrize("text", VALID_TEXTS)
def test_text_of_any_script_is_unchanged(text):
    assert check_text("title", text, 200) is text
    assert not has_control(text)


@pytest.mark.parametrize("control", CONTROL_CHARACTERS, ids=ascii)
def test_text_with_control_or_surrogate_is_refused(control):
    assert has_control(f"a{control}b")
    error = get_field_error(check_text, "title", f"a{control}b", 200)
    assert error.field == "title"
    assert "control characters" in str(error)
    assert str(error).isprintable()


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\r\nb"])
def test_newlines_and_tabs_are_allowed_in_multiline_text(text):
    assert check_text("description", text, 200, allow_newlines=True) is text


@pytest.mark.parametrize("control", ["\x00", "\x1b", "\x7f", "\ud800"], ids=ascii)
def test_control_characters_are_refused_in_multiline_text(control):
    assert "control characters" in str(
        get_field_error(check_text, "description", f"a\n{control}", 200, allow_newlines=True)
    )


@pytest.mark.parametrize("value", [None, 5, 1.5, True, b"bytes", ["a"]])
def test_text_of_another_type_error_shows_value(value):
    error = get_field_error(check_text, "title", value, 200)
    assert isinstance(error, FieldTypeError)
    assert str(error) == f"title must be a string, not {value!r}"


def test_text_is_accepted_up_to_limit():
    assert check_text("title", "x" * 200, 200)
    error = get_field_error(check_text, "title", "x" * 201, 200)
    assert not isinstance(error, TypeError)
    assert "title must be 0 to 200 characters long, not 201" in str(error)


# ---------------------------------------------------------------- id


@pytest.mark.parametrize("item_id", ["x", "x" * 200, "😀" * 200, " ", "..", "/", "a/b?c#d%e", "שלום"])
def test_id_may_be_any_text_of_1_to_200_characters(item_id):
    assert check_id(item_id) is item_id


@pytest.mark.parametrize("item_id", ["", "x" * 201, "a\x00", "a\n", "a\t", "\ud800", None, 7, True, b"id"], ids=ascii)
def test_invalid_id_error_names_the_argument(item_id):
    error = get_field_error(check_id, item_id, "item_id")
    assert error.field == "item_id"
    assert "item_id must" in str(error)


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize("number", [0, -1, 2**53, -(2**53), 0.5, -0.0, 5e-324, 1e300, -1e300])
def test_finite_number_is_unchanged(number):
    assert check_number("total", number) is number


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**300])
def test_int_beyond_2_to_the_53_becomes_float(number):
    assert type(check_number("total", number)) is float
    assert check_number("total", number) == float(number)


@pytest.mark.parametrize(
    "number",
    [
        NAN_VALUE,
        INFINITE_VALUE,
        -INFINITE_VALUE,
        float("1e999"),
        1.1e300,
        10**301,
        -(10**301),
        HUGE_NUMBER,
        -HUGE_NUMBER,
    ],
    ids=lambda _: "number",
)
def test_infinite_or_too_large_number_is_refused(number):
    error = get_field_error(check_number, "total", number)
    assert not isinstance(error, TypeError)
    assert str(error).startswith("total must be a finite number, not ")


@pytest.mark.parametrize("value", [True, False, None, "1", 1j, [1]])
def test_number_of_another_type_error_shows_value(value):
    error = get_field_error(check_number, "total", value)
    assert isinstance(error, FieldTypeError)
    assert str(error) == f"total must be a number, not {value!r}"


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0, 0.5, 5e-324, -0.0])
def test_value_from_0_to_1_becomes_float(value):
    assert type(check_value(value)) is float
    assert check_value(value) == value


@pytest.mark.parametrize(
    "value", [1 + 2e-9, -2e-9, 2, -1, 1e300, NAN_VALUE, INFINITE_VALUE, -INFINITE_VALUE, HUGE_NUMBER], ids=lambda _: "v"
)
def test_value_outside_0_to_1_is_refused(value):
    error = get_field_error(check_value, value)
    assert error.field == "value"
    assert str(error).startswith("value must be ")


@pytest.mark.parametrize("value", [True, False, None, "0.5"])
def test_value_of_another_type_is_type_error(value):
    assert isinstance(get_field_error(check_value, value), TypeError)


@pytest.mark.parametrize("weight", [0, -1, 2**53, -(2**53)])
def test_weight_within_2_to_the_53_is_accepted(weight):
    assert check_weight(weight) is weight


@pytest.mark.parametrize("weight", [2**53 + 1, -(2**53) - 1, HUGE_NUMBER, -HUGE_NUMBER], ids=lambda _: "weight")
def test_weight_beyond_2_to_53_is_refused(weight):
    assert str(get_field_error(check_weight, weight)).startswith("weight must be within +-2**53, not ")


@pytest.mark.parametrize("weight", [True, False, 1.0, NAN_VALUE, "1", None])
def test_weight_of_another_type_is_type_error(weight):
    error = get_field_error(check_weight, weight)
    assert isinstance(error, TypeError)
    assert str(error) == f"weight must be an int, not {weight!r}"


@pytest.mark.parametrize("seconds", [0, 0.0, 15, 1e300])
def test_seconds_become_float(seconds):
    assert type(check_seconds("ttl", seconds)) is float


@pytest.mark.parametrize("seconds", [-5e-324, -1, NAN_VALUE, INFINITE_VALUE, True, "15", None])
def test_seconds_below_0_or_not_number_are_refused(seconds):
    assert get_field_error(check_seconds, "ttl", seconds).field == "ttl"


# ---------------------------------------------------------------- meta


def test_meta_of_short_texts_is_accepted():
    meta = {"host": "h", "command": "a\n\tb", "e": ""}
    assert check_meta(meta) == meta
    assert check_meta({}) == {}
    assert len(check_meta({str(n): "x" * MAX_META_LENGTH for n in range(MAX_META_ENTRIES)})) == MAX_META_ENTRIES


@pytest.mark.parametrize(
    "meta",
    [
        None,
        [],
        "host=h",
        {str(n): "x" for n in range(MAX_META_ENTRIES + 1)},
        {"": "x"},
        {"host": 1},
        {1: "host"},
        {"host": None},
        {"host": "x" * (MAX_META_LENGTH + 1)},
        {"h" * (MAX_META_LENGTH + 1): "x"},
        {"ho\nst": "x"},
        {"host": "\x00"},
    ],
    ids=lambda meta: ascii(meta)[:20],
)
def test_invalid_meta_is_refused(meta):
    assert get_field_error(check_meta, meta).field == "meta"


# ---------------------------------------------------------------- fraction


@pytest.mark.parametrize(
    ("completed", "total", "done"),
    [
        (None, 10, None),
        (5, None, None),
        (0, 10, 0.0),
        (5, 10, 0.5),
        (10, 10, 1.0),
        (12, 10, 1.0),
        (0, 0, 0.0),
        (-3, 10, 0.0),
        (-1, 0, 0.0),
        (-7, -5, 0.0),
        (-1e300, 5e-324, 0.0),
        (2**53 - 1, 2**53, 1 - 2**-53),
        (1e300, math.nextafter(1e300, INFINITE_VALUE), 1.0),
    ],
)
def test_fraction_is_completed_share(completed, total, done):
    assert compute_fraction(completed, total) == done


@given(completed=numbers, total=numbers)
def test_fraction_is_1_only_if_complete(completed, total):
    done = compute_fraction(completed, total)
    assert done is not None
    assert 0.0 <= done <= 1.0
    assert (done == 1.0) == (total > 0 and is_complete(completed, total))


@given(total=st.integers(1, 10**400))
def test_fraction_of_all_but_one_is_below_1(total):
    done = compute_fraction(total - 1, total)
    assert done is not None
    assert done < 1.0


# ---------------------------------------------------------------- the rest


@given(st.text(st.characters(categories=None) | st.sampled_from("\x00\x7f\ud800\udfff")))
def test_text_without_control_is_valid_utf_8(text):
    if not has_control(text):
        assert text.encode().decode() == text


@pytest.mark.parametrize(
    "value", [UnprintableValue(), HUGE_NUMBER, "x" * 10_000, "\ud800", "\x1b[31m"], ids=lambda v: type(v).__name__
)
def test_any_value_is_formatted_on_one_short_line(value):
    text = format_value(value)
    assert len(text) <= 80
    assert text.isprintable()


def test_value_with_failing_repr_is_shown_by_type():
    assert format_value(UnprintableValue()) == "<UnprintableValue: repr() raised RuntimeError>"


def test_each_key_type_has_permissions_of_protocol():
    assert KEY_PERMISSIONS == {
        "read": ("read",),
        "write": ("read", "create", "update_own", "delete_own"),
        "admin": ("read", "create", "update_all", "delete_all"),
    }


def test_key_info_needs_only_type_and_permissions():
    assert KeyInfo("read", ("read",)) == ("read", ("read",), (), "", "")
