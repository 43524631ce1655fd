"""Contract of the callbacks of the training libraries that report their steps."""

from __future__ import annotations

import pytest

from progressbar_tracker import track
from progressbar_tracker.testing import recording
from tests.integrations.callback_contract import STEP_COUNT, FitContract

__all__ = ["STEP_COUNT", "CallbackContract"]


class CallbackContract(FitContract):
    """Adds the steps within an epoch, and the nested item of the current phase."""

    def test_fit_moves_with_each_step(self):
        counts = []
        with recording() as recorded:
            self.train(self.Callback(id="fit"), in_step=lambda _: counts.append(float(recorded["fit"].completed)))
        assert counts == pytest.approx([self.expected_total(step / STEP_COUNT) for step in range(2 * STEP_COUNT)])

    def test_current_phase_is_nested_item(self):
        with recording() as recorded:
            self.train(self.Callback(id="fit", group="night", weight=3))
        inside = recorded["fit/now"]
        assert (inside.parent, inside.group, inside.weight) == ("fit", "night", 3)
        assert (inside.completed, inside.total) == (STEP_COUNT, STEP_COUNT)

    def test_phase_is_nested_in_fit_despite_open_bars(self):
        opened = []

        def in_step(number):
            if number == 1:
                opened.append(track(total=1, id="open"))
                opened[0].update(completed=0)

        with recording() as recorded:
            self.train(self.Callback(id="fit"), in_step=in_step, **self.inside)
        assert recorded["open"].parent == "fit"
        assert {run.parent for run in recorded if run.id == "fit/now"} == {"fit"}

    @pytest.mark.parametrize("is_stoppable", [True, False])
    def test_requested_stop_ends_the_training(self, is_stoppable):
        numbers = []

        def in_step(number):
            numbers.append(number)
            if number == 2:
                recorded.request_stop("fit")

        with recording() as recorded:
            self.train(self.Callback(id="fit", **({"stoppable": True} if is_stoppable else {})), in_step=in_step)
        assert recorded["fit"].stoppable is is_stoppable
        assert recorded["fit"].status == ("stopped" if is_stoppable else "succeeded")
        assert numbers == list(range(1, (2 if is_stoppable else 2 * STEP_COUNT) + 1))
