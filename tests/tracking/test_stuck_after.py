"""``stuck_after=`` of ``track()``, of the drop-in, of a client and of the command line."""

from __future__ import annotations

import io
import math

import pytest
from click.testing import CliRunner
from tqdm import tqdm as std_tqdm

from progressbar_tracker import ProgressBar, ValidationError, track
from progressbar_tracker._models import MAX_AGE_SECONDS
from progressbar_tracker._sender.snapshot import StaticFields, add_static_fields
from progressbar_tracker._tracking.stuck_after import parse_stuck_after
from progressbar_tracker.cli.pipe import pipe
from progressbar_tracker.testing import recording
from progressbar_tracker.tqdm import mirror, tqdm

INVALID_SECONDS = [0, -1, -0.0, math.nan, math.inf, -math.inf, 1e12]


def record_loop(**options: object) -> object:
    with recording() as recorded:
        list(track([1], id="a", display=False, **options))
    return recorded["a"].stuck_after


def test_run_without_the_option_is_automatic() -> None:
    assert record_loop() == "auto"


@pytest.mark.parametrize(("value", "seconds"), [(90, 90.0), (0.5, 0.5), (None, None), ("auto", "auto")])
def test_option_takes_seconds_none_or_auto(value: object, seconds: object) -> None:
    assert record_loop(stuck_after=value) == seconds


@pytest.mark.parametrize("value", INVALID_SECONDS)
def test_option_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="stuck_after"):
        track([], stuck_after=value)


@pytest.mark.parametrize("value", ["off", "90", True, [], object(), 1j])
def test_option_of_a_wrong_type_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="stuck_after"):
        track([], stuck_after=value)


@pytest.mark.parametrize("stuck_after", [60, None])
def test_drop_in_takes_the_option(stuck_after: float | None) -> None:
    with recording() as recorded:
        list(tqdm([1], id="a", stuck_after=stuck_after, disable=None))
        mirror(std_tqdm(total=1, file=io.StringIO()), id="b", stuck_after=stuck_after).close()
    assert [run.stuck_after for run in recorded.runs] == [stuck_after] * 2


@pytest.mark.parametrize(
    ("stuck_after", "sent"), [(60.0, {"stuck_after": 60.0}), (None, {"stuck_after": None}), ("auto", {})]
)
def test_automatic_is_absent_in_the_operation(stuck_after: object, sent: dict[str, object]) -> None:
    op: dict[str, object] = {}
    add_static_fields(op, StaticFields("it", None, None, stuck_after=stuck_after), 1.0)
    assert {name: value for name, value in op.items() if name == "stuck_after"} == sent


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1h30m", 5400), ("off", None), (" OFF ", None)]
)
def test_typed_time_is_parsed(text: str, seconds: float | None) -> None:
    assert parse_stuck_after(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "none", "20y", "auto"])
def test_other_typed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"off|stuck_after"):
        parse_stuck_after(text)


def test_command_line_validates_the_option() -> None:
    with recording() as recorded:
        result = CliRunner().invoke(pipe, ["--stuck-after", "0"])
    assert result.exit_code == 2
    assert "stuck_after must be more than 0 seconds" in result.output
    assert len(recorded) == 0


@pytest.fixture
def pb(server):
    with ProgressBar(server.url, server.create_key("write", "me")) as pb:
        yield pb


@pytest.mark.parametrize(("stuck_after", "shown"), [(60, 60.0), (None, None), ("auto", "auto")])
def test_server_has_the_option_of_a_run(pb, stuck_after, shown):
    with pb.track(total=2, id="a", stuck_after=stuck_after, display=False) as bar:
        bar.advance()
        assert pb.sender.flush(60)
        assert pb.get("a").get("stuck_after", "auto") == shown


def test_client_patches_the_fields_of_an_item(pb):
    pb.create("a", "A", "", 0.5)
    item = pb.patch("a", stuck_after=90, completed=3, total=4)
    assert (item["stuck_after"], item["completed"], item["total"], item["value"]) == (90.0, 3, 4, 0.75)


@pytest.mark.parametrize("value", [0, -1, 2 * MAX_AGE_SECONDS])
def test_client_patch_out_of_range_is_refused(pb, value):
    pb.create("a", "A", "", 0.5)
    with pytest.raises(ValidationError, match="stuck_after"):
        pb.patch("a", stuck_after=value)


def test_client_never_sends_nan(pb):
    with pytest.raises(ValueError, match="JSON"):
        pb.patch("a", stuck_after=math.nan)
