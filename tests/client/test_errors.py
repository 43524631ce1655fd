"""The errors: their classes, their messages, and their pickling."""

from __future__ import annotations

import builtins
import copy
import pickle

import pytest

import progressbar_tracker
from progressbar_tracker import (
    ConfigError,
    ConflictError,
    ItemExistsError,
    ItemNotFoundError,
    PermissionError,
    ProgressBarError,
    RateLimitedError,
    ResponseError,
    ServerError,
    TrackingWarning,
    TransportError,
    ValidationError,
)
from progressbar_tracker import _errors as errors_module
from progressbar_tracker._models import FieldError, FieldTypeError

RESPONSE_ERRORS = [
    PermissionError,
    ValidationError,
    ItemNotFoundError,
    ItemExistsError,
    ConflictError,
    RateLimitedError,
    ServerError,
    ResponseError,
]
SUBCLASS_PAIRS = [
    (ConfigError, ValueError),
    (PermissionError, builtins.PermissionError),
    (PermissionError, OSError),
    (ValidationError, ValueError),
    (ItemNotFoundError, ValueError),
    (ItemExistsError, ValueError),
    (FieldTypeError, TypeError),
    (FieldTypeError, ValueError),
    (FieldError, ValueError),
]
UNRELATED_PAIRS = [
    (TransportError, ResponseError),
    (ConfigError, ResponseError),
    (ConflictError, ValueError),
    (ServerError, ValueError),
    (RateLimitedError, ValueError),
    (PermissionError, ValueError),
    (FieldError, ProgressBarError),
]


def make_error(kind):
    return kind("no", status_code=418, code="teapot", detail="short and stout", retry_after=2.5)


def are_equal(error, other):
    return type(error) is type(other) and error.args == other.args and vars(error) == vars(other)


@pytest.mark.parametrize("kind", [ConfigError, TransportError, ResponseError])
def test_error_classes_have_one_root(kind):
    assert issubclass(kind, ProgressBarError)


@pytest.mark.parametrize("kind", RESPONSE_ERRORS)
def test_every_server_refusal_is_response_error(kind):
    assert issubclass(kind, ResponseError)


@pytest.mark.parametrize(("kind", "other"), SUBCLASS_PAIRS, ids=lambda kind: kind.__name__)
def test_error_is_caught_by_builtin_name(kind, other):
    error = kind.__new__(kind, "no")
    with pytest.raises(other) as caught:
        raise error
    assert caught.value is error


@pytest.mark.parametrize(("kind", "other"), UNRELATED_PAIRS, ids=lambda kind: kind.__name__)
def test_error_is_not_caught_by_unrelated_name(kind, other):
    assert not issubclass(kind, other)


def test_permission_error_catches_only_own_errors():
    assert issubclass(PermissionError, builtins.PermissionError)
    assert not isinstance(builtins.PermissionError(13, "a file"), PermissionError)


def test_tracking_warning_is_user_warning():
    assert issubclass(TrackingWarning, UserWarning)
    assert not issubclass(TrackingWarning, ProgressBarError)


def test_package_exports_every_error_class():
    assert set(errors_module.__all__) <= set(progressbar_tracker.__all__)
    assert all(getattr(progressbar_tracker, name) is getattr(errors_module, name) for name in errors_module.__all__)


def test_docstring_tree_names_every_class():
    missing = [name for name in errors_module.__all__ if name not in (errors_module.__doc__ or "")]
    assert missing == []


@pytest.mark.parametrize("kind", RESPONSE_ERRORS)
def test_response_error_has_message_and_details(kind):
    error = make_error(kind)
    assert str(error) == "no"
    assert (error.status_code, error.code, error.detail, error.retry_after) == (418, "teapot", "short and stout", 2.5)


def test_response_error_has_empty_defaults():
    error = ServerError("no", status_code=500)
    assert (error.code, error.detail, error.retry_after) == ("", "", None)


def test_transport_error_has_message_method_and_url():
    error = TransportError("refused", method="GET", url="http://h/progress")
    assert (str(error), error.method, error.url) == ("refused", "GET", "http://h/progress")


@pytest.mark.parametrize("again", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize(
    "error",
    [
        *map(make_error, RESPONSE_ERRORS),
        TransportError("refused", method="GET", url="http://h/progress"),
        ConfigError("PROGRESSBAR_URL is not a URL"),
        ProgressBarError("one", "two"),
        FieldError("title", "title must be a string"),
        FieldTypeError("title", "title must be a string"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_survives_pickle_and_copy(error, again):
    assert are_equal(again(error), error)
    assert str(again(error)) == str(error)


def test_note_survives_pickle():
    error = make_error(ServerError)
    error.add_note("while encoding")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while encoding"]
