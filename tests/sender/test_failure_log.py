"""One line for each cause: what is logged, what is announced, and what is said at the end."""

from __future__ import annotations

import pytest

from progressbar_tracker._sender.failure_log import LOG_INTERVAL, FailureLog


class Listener:
    def __init__(self):
        self.now = 0.0
        self.announced = []
        self.log = FailureLog(lambda cause, text, scope: self.announced.append(cause), lambda: self.now)


@pytest.fixture
def listener(caplog):
    caplog.set_level("INFO", "progressbar_tracker")
    return Listener()


def read_levels(caplog):
    return [record.levelname for record in caplog.records]


def test_repeated_cause_is_logged_and_announced_once(listener, caplog):
    for listener.now in range(10_000):
        listener.log.report("outage", f"failure {listener.now}")
    assert listener.announced == ["outage"]
    assert read_levels(caplog) == ["WARNING"]


def test_each_cause_is_announced(listener):
    listener.log.report("outage", "refused")
    listener.log.report("key", "revoked")
    assert listener.announced == ["outage", "key"]


def test_recovery_is_logged_once(listener, caplog):
    listener.log.report("outage", "refused")
    listener.log.record_success()
    listener.log.record_success()
    assert read_levels(caplog) == ["WARNING", "INFO"]


def test_server_that_comes_and_goes_is_logged_once_a_minute(listener, caplog):
    for listener.now in range(int(3 * LOG_INTERVAL)):
        listener.log.report("outage", "refused")
        listener.log.record_success()
    assert read_levels(caplog).count("WARNING") == 3
    assert listener.announced == ["outage"]


def test_success_closes_no_cause_of_an_item(listener, caplog):
    listener.log.report("refused-403", "not yours", "item")
    listener.log.record_success()
    listener.log.report("refused-403", "not yours", "item")
    assert read_levels(caplog) == ["WARNING"]


def test_postponed_item_that_arrives_is_a_recovery(listener, caplog):
    listener.log.report("postponed", "too many items", "item")
    listener.log.close_cause("postponed")
    listener.log.close_cause("postponed")
    assert read_levels(caplog) == ["WARNING", "INFO"]


def test_lost_states_are_announced_at_the_end(listener, caplog):
    listener.log.close(2)
    assert listener.announced == ["lost"]
    assert "The last state of 2 items did not reach the server" in caplog.text


def test_known_cause_has_no_second_line_at_the_end(listener, caplog):
    listener.log.report("outage", "refused")
    listener.log.close(1)
    assert listener.announced == ["outage"]
    assert read_levels(caplog) == ["WARNING"]


def test_second_outage_is_announced_at_the_end(listener):
    """The first line was about an outage that is over."""
    listener.log.report("outage", "refused")
    listener.log.record_success()
    listener.now += LOG_INTERVAL
    listener.log.report("outage", "refused")
    listener.log.close(1)
    assert listener.announced == ["outage", "lost"]


def test_failure_after_the_end_is_not_announced(listener):
    listener.log.close(1)
    listener.log.report("outage", "the request of the thread has failed as well")
    assert listener.announced == ["lost"]


def test_end_with_everything_delivered_says_nothing(listener, caplog):
    listener.log.close(0)
    assert (listener.announced, caplog.records) == ([], [])


def test_announcement_that_raises_is_ignored(caplog):
    def fail(*arguments):
        raise OSError

    FailureLog(fail, lambda: 0.0).report("outage", "refused")
    assert read_levels(caplog) == ["WARNING"]
