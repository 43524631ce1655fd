"""Hooks of another library's classes and modules."""

from __future__ import annotations

import functools
import pickle
import sys
import threading
import traceback
from types import ModuleType

import pytest

from progressbar_tracker._tracking.patches import Patches

THIS_MODULE = sys.modules[__name__]


def draw(text="bar"):
    return f"drawn: {text}"


@pytest.fixture
def patches():
    patches = Patches()
    yield patches
    patches.uninstall()


def make_class():
    class Base:
        def inherited(self):
            return "inherited"

    class Bar(Base):
        def close(self, value=None):
            """Close the bar."""
            return ("closed", value)

        @staticmethod
        def static(value):
            return ("static", value)

        @classmethod
        def of_class(cls, value):
            return (cls, value)

        partial = functools.partialmethod(close, 7)

        def fail(self):
            raise KeyError("of the library")

    return Bar


def list_attributes(owner):
    return {name: value for name, value in vars(owner).items() if name not in ("__dict__", "__weakref__")}


METHOD_NAMES = ("inherited", "close", "static", "of_class", "partial", "fail")


def install_all(patches, owner, observe):
    patches.install({(owner, name): patches.call_before(observe) for name in METHOD_NAMES})


def test_patches_uninstall_restores_every_attribute(patches):
    bar_class = make_class()
    before = list_attributes(bar_class)
    install_all(patches, bar_class, print)
    assert set(list_attributes(bar_class)) == {*before, "inherited"}
    patches.uninstall()
    patches.uninstall()
    after = list_attributes(bar_class)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)


def test_patches_of_each_descriptor_keep_the_result(patches):
    bar_class, seen = make_class(), []
    install_all(patches, bar_class, lambda *args: seen.append(args))
    bar = bar_class()
    results = [
        bar.close(2),
        bar.static(3),
        bar_class.static(4),
        bar.of_class(5),
        bar_class.of_class(6),
        bar.inherited(),
        bar.partial(),
    ]
    assert results == [
        ("closed", 2), ("static", 3), ("static", 4), (bar_class, 5), (bar_class, 6), "inherited", ("closed", 7),
    ]  # fmt: skip
    assert seen == [(bar, 2), (3,), (4,), (bar_class, 5), (bar_class, 6), (bar,), (bar,)]


def test_patches_keep_name_and_docstring(patches):
    bar_class = make_class()
    install_all(patches, bar_class, print)
    assert (bar_class.close.__name__, bar_class.close.__doc__) == ("close", "Close the bar.")


def test_patches_call_after_passes_the_result(patches):
    bar_class, seen = make_class(), []
    patches.install({(bar_class, "close"): patches.call_after(lambda *args, **options: seen.append((args, options)))})
    bar = bar_class()
    bar.close(value=1)
    assert seen == [((("closed", 1), bar), {"value": 1})]


def test_patches_call_after_is_silent_after_exception(patches):
    bar_class, seen = make_class(), []
    patches.install({(bar_class, "fail"): patches.call_after(lambda *args: seen.append(args))})
    with pytest.raises(KeyError, match="of the library"):
        bar_class().fail()
    assert seen == []


@pytest.mark.parametrize("method", ["call_before", "call_after"])
def test_patches_observer_error_is_only_logged(patches, caplog, method):
    def observe(*args):
        raise RuntimeError("of the hook")

    bar_class = make_class()
    patches.install({(bar_class, "close"): getattr(patches, method)(observe)})
    with caplog.at_level("DEBUG", logger="progressbar_tracker"):
        assert bar_class().close(1) == ("closed", 1)
    assert "of the hook" in caplog.text


@pytest.mark.parametrize("name", ["function", "observe", "self", "original"])
def test_patches_pass_any_keyword(patches, name):
    seen = []
    module = ModuleType("library")
    module.draw = lambda **options: options
    patches.install({(module, "draw"): patches.call_before(lambda **options: seen.append(options))})
    assert module.draw(**{name: 1}) == {name: 1}
    assert seen == [{name: 1}]


def test_patches_install_is_idempotent(patches):
    bar_class, seen = make_class(), []
    for _ in range(2):
        install_all(patches, bar_class, seen.append)
    bar_class().close()
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["missing", "upper"])
def test_patches_leave_an_unknown_version_unchanged(patches, name):
    bar_class = make_class()
    before = list_attributes(bar_class)
    owner = str if name == "upper" else bar_class  # a class in C
    patches.install({(bar_class, "close"): patches.call_before(print), (owner, name): patches.call_before(print)})
    assert not patches.is_installed
    assert list_attributes(bar_class) == before


def test_patches_uninstall_keeps_a_foreign_wrapper(patches, monkeypatch):
    bar_class, seen = make_class(), []
    install_all(patches, bar_class, seen.append)
    hook = bar_class.close
    monkeypatch.setattr(bar_class, "close", lambda self: ("foreign", hook(self)))
    foreign = bar_class.close
    patches.uninstall()
    assert bar_class.close is foreign
    assert bar_class().close() == ("foreign", ("closed", None))
    assert seen == []
    install_all(patches, bar_class, seen.append)
    bar_class().close()
    assert len(seen) == 1  # the hook that is still inside the foreign wrapper


def test_patches_of_module_function_can_be_pickled(patches):
    seen = []
    patches.install({(THIS_MODULE, "draw"): patches.call_before(lambda *args: seen.append(args))})
    assert pickle.loads(pickle.dumps(draw))("a") == "drawn: a"
    assert seen == [("a",)]


def test_patches_from_many_threads_are_restored(patches):
    bar_class = make_class()
    before = list_attributes(bar_class)

    def toggle():
        for _ in range(50):
            install_all(patches, bar_class, print)
            patches.uninstall()

    threads = [threading.Thread(target=toggle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list_attributes(bar_class) == before


@pytest.mark.parametrize("kind", ["call_before", "call_after"])
def test_traceback_of_the_original_has_no_line_of_the_hook(patches, kind):
    bar_class = make_class()

    def list_lines():
        try:
            bar_class().fail()
        except KeyError as error:
            return [step.name for step in traceback.extract_tb(error.__traceback__)]

    expected = list_lines()
    patches.install({(bar_class, "fail"): getattr(patches, kind)(lambda *args: None)})
    assert list_lines() == expected == ["list_lines", "fail"]
