"""A short run of the credential fuzzer; before a release it runs for half an hour."""

from __future__ import annotations

import pytest

from tests.security import fuzz_credentials

from .fuzz_credentials import UnauthorizedError, run_rounds


def test_fuzz_finds_no_unauthorized_action() -> None:
    assert run_rounds(3.0, seed=1, print_line=lambda _: None) > 0


def test_fuzz_detects_a_server_that_authorizes_the_head_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle can fail."""
    monkeypatch.setattr("progressbar_tracker.server.http.request.Request.reauthorize", lambda _: None)
    monkeypatch.setattr(fuzz_credentials, "PROTECTED_ROUTES", fuzz_credentials.KEY_ROUTES)
    with pytest.raises(UnauthorizedError, match="round"):
        run_rounds(60.0, seed=1, print_line=lambda _: None)


def test_fuzz_finds_no_unauthorized_action_on_two_servers(postgres_url: str) -> None:
    assert run_rounds(5.0, seed=1, postgres=postgres_url, print_line=lambda _: None) > 0
