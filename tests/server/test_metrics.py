"""``/metrics``, and the ids of requests."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from progressbar_tracker.server.counters import CommitStats, Histogram
from progressbar_tracker.server.logs import choose_request_id
from progressbar_tracker.server.metrics import METRIC_DEFINITIONS
from tests.support.server import RunningServer, make_legacy_item
from tests.support.sse import SseStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.server import FullDisk


def read_metrics(served: RunningServer, key: str = "read") -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return each sample by name and labels, as parsed by Prometheus's own parser."""
    response = served.client(key).get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(response.text):
        assert family.documentation
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def make_labels(**of: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(of.items()))


def test_request_is_counted_by_route_not_by_path(module_server: RunningServer) -> None:
    http = module_server.client("write")
    http.put("/api/v1/items/one", json={})
    http.put("/api/v1/items/two", json={})
    http.put("/api/v1/items/two", json={"value": 7})
    metrics = read_metrics(module_server)
    route = {"method": "PUT", "route": "/api/v1/items/{id:path}"}
    assert metrics["progressbar_http_requests_total"][make_labels(**route, status="2xx")] == 2
    assert metrics["progressbar_http_requests_total"][make_labels(**route, status="4xx")] == 1
    assert metrics["progressbar_http_request_duration_seconds_count"][make_labels(**route)] == 3
    assert metrics["progressbar_http_request_duration_seconds_bucket"][make_labels(**route, le="+Inf")] == 3
    assert 0 < metrics["progressbar_http_request_duration_seconds_sum"][make_labels(**route)] < 30


def test_unknown_path_adds_no_series(module_server: RunningServer) -> None:
    http = module_server.client()
    for n in range(20):
        http.get(f"/guessed/{n}")
        http.request(f"METHOD{n}" if n % 2 else "PROPFIND", f"/s/token-{n}")
    text = module_server.client("read").get("/metrics").text
    assert "guessed" not in text
    assert "token-" not in text
    assert (
        read_metrics(module_server)["progressbar_http_requests_total"][
            make_labels(method="GET", route="other", status="4xx")
        ]
        >= 20
    )


def test_items_are_counted_by_status_and_stalled_apart(make_server: Callable[..., RunningServer]) -> None:
    served = make_server()
    http = served.client("write")
    for n, status in enumerate(["running", "running", "failed", "succeeded", "stopped"]):
        http.put(f"/api/v1/items/{n}", json={"status": status, "heartbeat_timeout": 5})
    served.clock.advance(6)
    http.patch("/api/v1/items/0", json={})
    metrics = read_metrics(served)
    assert {dict(key)["status"]: number for key, number in metrics["progressbar_items"].items()} == {
        "running": 2, "failed": 1, "succeeded": 1, "stopped": 1,
    }  # fmt: skip
    assert metrics["progressbar_items_stalled"][()] == 1
    assert metrics["progressbar_keys"][make_labels(type="write")] == 2
    assert "progressbar_item_progress" not in metrics


def test_item_progress_is_exported_up_to_the_setting(
    make_server: Callable[..., RunningServer],
) -> None:
    served = make_server(metrics_items=2)
    http = served.client("write")
    hostile = 'a"\\b} 1 \u2028forged{x="1"} 2'
    for weight, title in enumerate(["low", "high"]):
        http.put(f"/api/v1/items/{title}", json={"value": 0.25, "weight": weight, "group": hostile})
    http.put("/api/v1/items/lowest", json={"value": 0.25, "weight": -1})
    metrics = read_metrics(served)
    assert metrics["progressbar_item_progress"] == {
        make_labels(item=item, group=hostile, status="running"): 0.25 for item in ("high", "low")
    }
    assert "forged" not in metrics


def test_commits_and_failures_are_counted(make_server: Callable[..., RunningServer], disk: FullDisk) -> None:
    served = make_server()
    http = served.client("write")
    http.post("/progress", json=make_legacy_item("a"))
    before = read_metrics(served)
    disk.full = True
    assert http.post("/progress", json=make_legacy_item("b")).status_code == 503
    disk.full = False
    after = read_metrics(served)
    assert before["progressbar_store_commit_failures_total"][()] == 0
    assert after["progressbar_store_commit_failures_total"][()] >= 1
    assert before["progressbar_store_commit_size_sum"][()] >= 1
    assert before["progressbar_store_commit_duration_seconds_count"] == before["progressbar_store_commit_size_count"]


def test_streams_and_their_events_are_counted(make_server: Callable[..., RunningServer]) -> None:
    served = make_server()
    stream = SseStream(served, "read")
    stream.read_until(lambda event: event.name == "snapshot")
    metrics = read_metrics(served)
    assert metrics["progressbar_sse_connections"][()] == 1
    served.client("write").put("/api/v1/items/a", json={})
    stream.read_until(lambda event: event.name == "change")
    assert (
        read_metrics(served)["progressbar_sse_events_sent_total"][()]
        == metrics["progressbar_sse_events_sent_total"][()] + 1
    )
    served.stop()
    served.start()
    assert read_metrics(served)["progressbar_sse_connections_opened_total"][()] == 0


def test_notifications_are_counted_by_channel_and_result(
    make_server: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_server()
    counts = SimpleNamespace(delivered=3, failed=2, given_up=1, edited=4)
    monkeypatch.setattr(served.background.app.services.notifier.dispatcher, "counts", {"phone": counts})
    assert read_metrics(served)["progressbar_notifications_total"] == {
        make_labels(channel="phone", result="delivered"): 3,
        make_labels(channel="phone", result="failed"): 2,
        make_labels(channel="phone", result="given_up"): 1,
        make_labels(channel="phone", result="edited"): 4,
    }


def test_free_bytes_of_the_sqlite_file_are_exported(
    make_server: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    served = make_server()
    folder = Path(served.database).parent
    monkeypatch.setattr(shutil, "disk_usage", {folder: SimpleNamespace(free=2)}.__getitem__)
    assert read_metrics(served)["progressbar_store_free_bytes"][()] == 2

    def fail(_: Path) -> None:
        raise OSError

    monkeypatch.setattr(shutil, "disk_usage", fail)
    assert "progressbar_store_free_bytes" not in read_metrics(served)


def test_each_server_exports_its_own_metrics(make_server: Callable[..., RunningServer]) -> None:
    first, other = make_server(), make_server()
    first.client().get("/healthz")
    labels = make_labels(method="GET", route="/healthz", status="2xx")
    assert read_metrics(first)["progressbar_http_requests_total"][labels] == 1
    assert "progressbar_http_requests_total" not in read_metrics(other)


def test_metrics_need_a_key_and_accept_a_bearer_token(module_server: RunningServer) -> None:
    bearer = {"Authorization": f"Bearer {module_server.keys['read']}"}
    assert module_server.client(**bearer).get("/metrics").status_code == 200
    assert module_server.client().get("/metrics").status_code == 401


@pytest.mark.skipif(sys.platform != "linux", reason="process metrics need Linux")
def test_exported_metrics_are_declared_and_documented(
    make_server: Callable[..., RunningServer],
) -> None:
    served = make_server(metrics_items=1)
    served.client("write").put("/api/v1/items/one", json={})
    types = {
        line.split()[2]: line.split()[3]
        for line in served.client("read").get("/metrics").text.splitlines()
        if line.startswith("# TYPE")
    }
    assert types == {metric.name: metric.type for metric in METRIC_DEFINITIONS}
    page = served.client().get("/docs").text
    for metric in METRIC_DEFINITIONS:
        assert f"<code>{metric.name}</code>" in page
    assert len({metric.name for metric in METRIC_DEFINITIONS}) == len(METRIC_DEFINITIONS)
    for name, samples in read_metrics(served).items():
        known = next(
            metric
            for metric in METRIC_DEFINITIONS
            if name in {metric.name, *(f"{metric.name}{end}" for end in HISTOGRAM_SUFFIXES)}
        )
        for sample in samples:
            assert {label for label, _ in sample} - {"le"} == set(known.labels)


HISTOGRAM_SUFFIXES = ("_bucket", "_count", "_sum")


# Counters


def test_histogram_value_on_a_bound_is_within_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1.0", 1), ("2.0", 3), ("+Inf", 4)]
    assert (histogram.count, histogram.sum) == (4, 7.5)


def test_commit_stats_report_changes_between_success_and_failure() -> None:
    commits = CommitStats()
    turns = [commits.record(1, 0.1, failed=failed) for failed in (False, True, True, False, False)]
    assert turns == [False, True, False, True, False]
    assert commits.failures == 2


# Request ids


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/api/v1/items/none", "/", "/static/board.js", "/s/guessed"])
def test_every_response_has_the_request_id(module_server: RunningServer, path: str) -> None:
    generated = module_server.client("read").get(path).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", generated)
    assert module_server.client("read").get(path).headers["x-request-id"] != generated
    request_id = module_server.client("read", **{"X-Request-ID": "trace-1:a/b=="}).get(path)
    assert request_id.headers["x-request-id"] == "trace-1:a/b=="


def test_stream_and_refused_method_have_a_request_id(module_server: RunningServer) -> None:
    http = module_server.client("read", **{"X-Request-ID": "mine"})
    with http.stream("GET", "/api/v1/events") as response:
        assert response.headers["x-request-id"] == "mine"
    assert http.put("/healthz").headers["x-request-id"] == "mine"


@pytest.mark.parametrize(
    "request_id", [b"", b" ", b"a b", b"x" * 129, b"a\x1b[31m", b"a\xff", b"a\nforged", b"<b>", b"a;b"]
)
def test_unsafe_request_id_is_replaced(request_id: bytes) -> None:
    assert re.fullmatch(rb"[0-9a-f]{16}", choose_request_id(request_id))
