"""Annotations that name what is defined later, or only for type checkers: lazily evaluated from Python 3.14.

The code of programs is compiled here without this module's ``from __future__ import annotations``.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from types import ModuleType

import pytest

import progressbar_tracker
import progressbar_tracker.testing
import progressbar_tracker.tqdm
from progressbar_tracker import Change, Item, KeyInfo, Tracker, track
from progressbar_tracker._tracking.patches import Patches
from progressbar_tracker.integrations._training import wrap_methods
from progressbar_tracker.integrations._training_calls import observe_calls

has_lazy_annotations = pytest.mark.skipif(sys.version_info < (3, 14), reason="Python 3.14 introduced lazy annotations")

PUBLIC_MODULES = (progressbar_tracker, progressbar_tracker.testing, progressbar_tracker.tqdm)


def execute(code: str, **names: object) -> dict[str, typing.Any]:
    """Return the names of a program."""
    namespace: dict[str, typing.Any] = {"__name__": __name__, **names}
    exec(compile(code, "program", "exec", dont_inherit=True), namespace)
    return namespace


def list_public_callables() -> dict[str, typing.Any]:
    """Return the public functions and classes, and the public methods of these classes, by their dotted names."""
    found: dict[str, typing.Any] = {}
    for module in PUBLIC_MODULES:
        for name, value in inspect.getmembers(module):
            if name.startswith("_") or not getattr(value, "__module__", "").startswith("progressbar_tracker"):
                continue
            if not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            found[f"{module.__name__}.{name}"] = value
            if inspect.isclass(value):
                found |= {
                    f"{module.__name__}.{name}.{each}": method
                    for each, method in inspect.getmembers(value, inspect.isfunction)
                    if not each.startswith("_") and method.__module__.startswith("progressbar_tracker")
                }
    return found


PUBLIC_CALLABLES = list_public_callables()


def test_public_callables_are_found():
    assert {"progressbar_tracker.track", "progressbar_tracker.Tracker.advance"} <= PUBLIC_CALLABLES.keys()


def test_each_public_function_has_a_signature():
    for value in PUBLIC_CALLABLES.values():
        assert not inspect.isfunction(value) or inspect.signature(value)


@has_lazy_annotations
def test_annotations_of_public_names_are_read_in_each_format():
    import annotationlib

    for name, value in PUBLIC_CALLABLES.items():
        texts = annotationlib.get_annotations(value, format=annotationlib.Format.STRING)
        assert all(isinstance(text, str) for text in texts.values()), name
        assert annotationlib.get_annotations(value, format=annotationlib.Format.FORWARDREF).keys() == texts.keys(), name


@pytest.mark.parametrize("document", [Item, KeyInfo, Change])
def test_hints_of_a_public_document_are_evaluated(document):
    hints = typing.get_type_hints(document)
    assert hints
    assert not [hint for hint in hints.values() if isinstance(hint, str | typing.ForwardRef)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="pydantic reads a TypedDict of typing from Python 3.12")
@pytest.mark.parametrize("document", [Item, KeyInfo, Change])
def test_pydantic_reads_a_public_document(document):
    pydantic = pytest.importorskip("pydantic")
    assert pydantic.TypeAdapter(document).json_schema()


# --- programs ---------------------------------------------------------------------------------------------------------

LATER_PROGRAM = """
from dataclasses import dataclass

@dataclass
class Job:
    bar: Tracker[Row]
    next: Job | None = None

def import_rows(rows: list[Row], bar: Tracker[Row] | None = None) -> Iterator[Row]:
    yield from track(rows, id="rows", display=False)

class Row:
    pass

from collections.abc import Iterator
"""


@has_lazy_annotations
def test_dataclass_with_a_tracker_of_a_later_class_is_evaluated():
    program = execute(LATER_PROGRAM, Tracker=Tracker, track=track)
    hints = typing.get_type_hints(program["Job"], program)
    assert hints == {"bar": Tracker[program["Row"]], "next": program["Job"] | None}
    with progressbar_tracker.testing.recording():
        job = program["Job"](track([program["Row"]()], display=False))
        assert len(list(job.bar)) == 1
    assert [field.name for field in dataclasses.fields(job)] == ["bar", "next"]


@has_lazy_annotations
def test_generator_with_later_annotations_is_tracked():
    program = execute(LATER_PROGRAM, Tracker=Tracker, track=track)
    with progressbar_tracker.testing.recording() as recorded:
        assert len(list(program["import_rows"]([program["Row"]() for _ in range(3)]))) == 3
    assert [(run.id, run.completed) for run in recorded.runs] == [("rows", 3)]


@has_lazy_annotations
def test_pydantic_model_with_a_later_class_and_an_item_is_built():
    pydantic = pytest.importorskip("pydantic")
    code = "class Report(BaseModel):\n    item: Item\n    rows: list[Row]\nclass Row(BaseModel):\n    number: int\n"
    program = execute(code, BaseModel=pydantic.BaseModel, Item=Item)
    program["Report"].model_rebuild(_types_namespace=program)
    with pytest.raises(pydantic.ValidationError) as raised:
        program["Report"](item={"id": 1}, rows=[{"number": "1"}])
    assert {error["loc"][0] for error in raised.value.errors()} == {"item"}


# --- functions that this package wraps --------------------------------------------------------------------------------

LIBRARY_CODE = """
class Bar:
    def close(self, row: Row, callbacks: list[Callback] | None = None) -> Row:
        return row

    @classmethod
    def create(cls, row: Row) -> Bar:
        return cls()

def fit(row: Row, callbacks: list[Callback] | None = None) -> Row:
    return row
"""
"""A library whose annotations name what it imports for type checkers only."""


def load_library() -> typing.Any:
    module = ModuleType("library")
    vars(module).update(execute(LIBRARY_CODE))
    return module


@has_lazy_annotations
def test_hook_of_a_method_evaluates_no_annotation():
    library, seen, patches = load_library(), [], Patches()
    hook = patches.call_before(lambda *args: seen.append(args))
    patches.install({(library.Bar, "close"): hook, (library.Bar, "create"): hook})
    bar = library.Bar.create(1)
    assert (bar.close(2), seen) == (2, [(library.Bar, 1), (bar, 2)])
    with pytest.raises(NameError):
        typing.get_type_hints(library.Bar.close)
    inspect.unwrap(library.Bar.close).__globals__.update(Row=int, Callback=str)
    assert typing.get_type_hints(library.Bar.close)["row"] is int
    patches.uninstall()


@has_lazy_annotations
def test_wrapped_training_method_evaluates_no_annotation():
    library = load_library()
    wrap_methods(library.Bar, "close")
    assert library.Bar().close(2) == 2


@has_lazy_annotations
def test_observed_training_function_evaluates_no_annotation():
    library = load_library()
    observe_calls([library], "fit")
    assert library.fit(2, callbacks=[]) == 2
