"""The run of a program, whose progress is known later than its start."""

from __future__ import annotations

import pytest

from progressbar_tracker._programs.output_progress import Shown
from progressbar_tracker._programs.program_run import ProgramRun
from progressbar_tracker._tracking.creation import create_run
from progressbar_tracker.testing import recording

HALF_DONE = Shown(1, 5, 10, "MB", "Receiving")


@pytest.fixture
def program_run():
    with recording():
        run = create_run(ProgramRun, id="a", unit="")
        run.status = "running"
        yield run


def test_program_run_without_progress_has_no_count(program_run):
    snapshot = program_run.sample()
    assert (snapshot.is_counted, snapshot.total, snapshot.unit) == (False, None, None)


def test_program_run_samples_its_progress_as_a_whole(program_run):
    program_run.progress = HALF_DONE
    snapshot = program_run.sample()
    assert (snapshot.completed, snapshot.total, snapshot.unit, snapshot.description) == (5, 10, "MB", "Receiving")


def test_program_run_that_is_unchanged_samples_the_same_object(program_run):
    program_run.progress = HALF_DONE
    before = program_run.sample()
    assert program_run.sample(before) is before


def test_program_run_separates_phases_with_rising_counts(program_run):
    """Between them the server has no count, so that it measures the speed of each phase alone."""
    program_run.progress = HALF_DONE
    before = program_run.sample()
    program_run.progress = Shown(2, 80, 100, "MB", "Resolving")
    gap = program_run.sample(before)
    assert (gap.is_counted, program_run.sample(gap).completed) == (False, 80)


def test_program_run_has_no_gap_within_a_phase(program_run):
    program_run.progress = HALF_DONE
    before = program_run.sample()
    program_run.progress = HALF_DONE._replace(completed=8)
    assert program_run.sample(before).completed == 8


def test_program_run_keeps_the_count_of_a_lower_phase(program_run):
    program_run.progress = HALF_DONE
    before = program_run.sample()
    program_run.progress = Shown(2, 3, 100, "MB", "Resolving")
    assert program_run.sample(before).completed == 3


def test_program_run_that_is_withdrawn_has_no_count_again(program_run):
    program_run.progress = HALF_DONE
    before = program_run.sample()
    program_run.progress = None
    after = program_run.sample(before)
    assert (after.is_counted, after.total) == (False, None)


def test_program_run_is_complete_after_a_success(program_run):
    program_run.progress = HALF_DONE
    program_run.complete()
    assert program_run.sample().completed == 10


def test_program_run_without_a_total_keeps_its_count(program_run):
    program_run.progress = Shown(1, 5, None, "B", "")
    program_run.complete()
    assert (program_run.sample().completed, program_run.sample().total) == (5, None)


def test_program_run_ends_with_the_description_of_its_exit(program_run):
    program_run.progress = HALF_DONE
    program_run.description = "exit code 0"
    program_run.status = "succeeded"
    assert program_run.sample().description == "exit code 0"


def test_program_run_masks_secrets_in_its_description(program_run):
    program_run.progress = Shown(1, 5, 10, "MB", "token=abc123")
    assert program_run.sample().description == "token=***"
