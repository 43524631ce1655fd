"""A write that names an unknown channel is accepted, and its response says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from progressbar_tracker import ProgressBar, TrackingWarning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.server import RunningServer

CHANNEL_FILE = '[channels.phone]\nurl = "https://hooks.example.org/"\n'


@pytest.fixture
def served(make_server: Callable[..., RunningServer], tmp_path: Path) -> RunningServer:
    """A server with the channel ``phone``."""
    path = tmp_path / "channels.toml"
    path.write_text(CHANNEL_FILE)
    return make_server(channels=path)


def make_warning(name: str) -> dict[str, str]:
    return {"code": "unknown-channel", "field": "notify", "detail": f"this server has no channel '{name}'"}


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_write_with_an_unknown_channel_has_a_warning(served: RunningServer, method: str) -> None:
    with served.client("write") as http:
        http.put("/api/v1/items/a", json={})
        response = http.request(method, "/api/v1/items/a", json={"notify": ["phone", "phnoe", "other"]})
        assert response.json()["warnings"] == [make_warning("phnoe"), make_warning("other")]
        assert http.get("/api/v1/items/a").json()["notify"] == ["phone", "phnoe", "other"]


def test_write_with_known_channels_has_no_warnings(served: RunningServer) -> None:
    with served.client("write") as http:
        assert "warnings" not in http.put("/api/v1/items/a", json={"notify": ["phone"]}).json()
        assert "warnings" not in http.patch("/api/v1/items/a", json={"completed": 1}).json()


def test_item_that_is_read_has_no_warnings(served: RunningServer) -> None:
    with served.client("write") as http:
        http.put("/api/v1/items/a", json={"notify": ["phnoe"]})
        assert "warnings" not in http.get("/api/v1/items/a").json()


def test_operation_of_a_batch_has_its_own_warnings(served: RunningServer) -> None:
    ops = [
        {"op": "put", "id": "a", "notify": ["phnoe"]},
        {"op": "put", "id": "b", "notify": ["phone"]},
        {"op": "patch", "id": "missing", "notify": ["phnoe"]},
        {"op": "put", "id": "c", "completed": "wrong", "notify": ["phnoe"]},
    ]
    with served.client("write") as http:
        results = http.post("/api/v1/items:batch", json={"ops": ops}).json()["results"]
    assert [result.get("warnings") for result in results] == [[make_warning("phnoe")], None, None, None]


def test_channel_that_was_just_added_has_no_warning(served: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "channels.toml").write_text(CHANNEL_FILE + CHANNEL_FILE.replace("phone", "new"))
    with served.client("write") as http:
        assert "warnings" not in http.put("/api/v1/items/a", json={"notify": ["new"]}).json()


def test_server_without_channels_warns_of_each(server: RunningServer) -> None:
    with server.client("write") as http:
        assert http.put("/api/v1/items/a", json={"notify": ["x"]}).json()["warnings"] == [make_warning("x")]


def test_explicit_client_warns_at_its_caller(served: RunningServer) -> None:
    with ProgressBar(served.url, served.keys["write"], auto_detect=False) as pb:
        pb.create("a", "A", "", 0.0)
        with pytest.warns(TrackingWarning, match="this server has no channel 'phnoe'") as caught:
            item = pb.patch("a", notify=["phnoe"])
        assert caught[0].filename == __file__
        assert "warnings" not in item
