"""The metrics of ``/metrics`` in Prometheus's text format, declared in one list.

The parts of a server count their events as plain numbers. A request reads those of its own server; there is no global
registry and no state here.
"""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from progressbar_tracker._models import Status

from .items.conditions import CONDITION_NAMES
from .stores.reading import TableName, skipped_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from prometheus_client.core import Metric as Family

    from .access.keys import Keyring
    from .access.sessions import Sessions
    from .access.tokens import Tokens
    from .counters import Histogram, RequestMetrics
    from .hub import Hub
    from .items.board import Board
    from .items.conditions import Condition, Conditions
    from .models import Item, ShareRecord
    from .notifications.notifier import Notifier
    from .settings import Settings
    from .stores.base import Store

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

ITEMS_PER_SLICE: Final = 1000
"""Items counted per event-loop turn."""


class Metric(NamedTuple):
    """The definition of a metric, also shown in ``/docs``."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


METRIC_DEFINITIONS: Final[tuple[Metric, ...]] = (
    Metric("progressbar_build_info", "gauge", "Always 1; version and store of the server.", ("version", "store")),
    Metric(
        "progressbar_http_requests_total", "counter", "HTTP requests answered; a stream counts when it starts.",
        ("route", "method", "status"),
    ),
    Metric(
        "progressbar_http_request_duration_seconds", "histogram", "Seconds until a response was ready.",
        ("route", "method"),
    ),
    Metric("progressbar_items", "gauge", "Items on the board.", ("status",)),
    Metric("progressbar_items_stalled", "gauge", "Running items without a sign of life."),
    Metric("progressbar_items_stuck", "gauge", "Running items that are alive without progress."),
    Metric("progressbar_items_late", "gauge", "Running items past their deadlines."),
    Metric("progressbar_items_slower", "gauge", "Running items that are slower than their former runs."),
    Metric(
        "progressbar_item_progress", "gauge", "Progress of the first PROGRESSBAR_METRICS_ITEMS items, from 0 to 1.",
        ("item", "group", "status"),
    ),
    Metric("progressbar_sse_connections", "gauge", "Open event streams."),
    Metric("progressbar_sse_connections_opened_total", "counter", "Event streams opened."),
    Metric("progressbar_sse_events_sent_total", "counter", "Events sent to event streams."),
    Metric("progressbar_store_commit_size", "histogram", "Writes per commit of the store."),
    Metric("progressbar_store_commit_duration_seconds", "histogram", "Seconds per commit of the store."),
    Metric("progressbar_store_commit_failures_total", "counter", "Commits that failed."),
    Metric(
        "progressbar_rows_skipped_total", "counter",
        "Database rows that could not be read; the log names each of them once.", ("table",),
    ),
    Metric("progressbar_store_pending_writes", "gauge", "Writes that wait for a commit."),
    Metric(
        "progressbar_store_free_bytes", "gauge",
        "Free bytes of the file system with the SQLite file; absent on PostgreSQL.",
    ),
    Metric(
        "progressbar_notifications_waiting", "gauge",
        "Notifications in the outbox that are not delivered yet; counted once a minute by the leader.",
    ),
    Metric(
        "progressbar_notifications_total", "counter", "Notifications by result; failed ones are retried.",
        ("channel", "result"),
    ),
    Metric("progressbar_leader", "gauge", "1 if this server is the leader that runs background maintenance."),
    Metric("progressbar_keys", "gauge", "Keys, ended ones included.", ("type",)),
    Metric("progressbar_sessions", "gauge", "Browsers that are signed in."),
    Metric("progressbar_shares", "gauge", "Shares."),
    Metric("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    Metric("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."),
    Metric("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
    Metric("process_open_fds", "gauge", "Number of open file descriptors."),
    Metric("process_max_fds", "gauge", "Maximum number of open file descriptors."),
)  # fmt: skip
"""All metrics. Those of the process are present only if the operating system provides them."""

_METRICS_BY_NAME: Final = {metric.name: metric for metric in METRIC_DEFINITIONS}


class MetricSources(Protocol):
    """The services that the metrics are read from."""

    request_metrics: RequestMetrics
    store: Store
    hub: Hub
    sessions: Sessions
    shares: Tokens[ShareRecord]
    keyring: Keyring
    conditions: Conditions
    notifier: Notifier
    settings: Settings

    @property
    def read_board(self) -> Board:
        """The board that clients read."""

    def is_leader(self) -> bool:
        """Return whether this server runs background maintenance for all servers on its database."""


class ItemCounts:
    """Counts items by status and by condition, a slice at a time."""

    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions
        self.by_status: Counter[str] = Counter()
        self.by_condition: Counter[Condition] = Counter()

    def add(self, items: Sequence[Item], now: float) -> None:
        """Count some items."""
        self.by_status.update(item.status for item in items)
        running = [item for item in items if item.status == "running"]
        for condition in CONDITION_NAMES:
            self.by_condition[condition] += sum(self._conditions.has(condition, item, now) for item in running)


class Metrics:
    """Renders the metrics of one server.

    Args:
        sources: The services of the server.
        version: The version of the server.
    """

    def __init__(self, sources: MetricSources, version: str) -> None:
        self._sources = sources
        self._version = version
        self._process = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._process)

    def render(self, item_counts: ItemCounts, progress_items: Sequence[Item], now: float) -> bytes:
        """Return the metrics as text.

        Args:
            item_counts: The counts of all items.
            progress_items: The items with a progress metric.
            now: The current instant.
        """
        registry = _FamilyRegistry([*self._iter_families(item_counts, progress_items, now), *self._process.collect()])
        return generate_latest(registry)

    def _iter_families(self, item_counts: ItemCounts, progress_items: Sequence[Item], now: float) -> Iterator[Family]:
        sources = self._sources
        yield _make_gauge(
            "progressbar_build_info", (1, self._version, "sqlite" if sources.store.shared is None else "postgresql")
        )
        requests = _make_counter("progressbar_http_requests_total")
        seconds = _make_histogram("progressbar_http_request_duration_seconds")
        for method, route, stats in sources.request_metrics.iter_stats():
            seconds.add_metric([route, method], stats.durations.buckets(), stats.durations.sum)
            for digit, count in enumerate(stats.counts):
                if count:
                    requests.add_metric([route, method, f"{digit}xx"], count)
        yield requests
        yield seconds
        yield _make_gauge(
            "progressbar_items", *((item_counts.by_status[status], status) for status in get_args(Status))
        )
        for condition in CONDITION_NAMES:
            yield _make_gauge(f"progressbar_items_{condition}", (item_counts.by_condition[condition],))
        yield _make_gauge(
            "progressbar_item_progress",
            *(
                (
                    item.value,
                    item.id,
                    item.group or "",
                    _get_state(item, sources.conditions, now),
                )
                for item in progress_items
            ),
        )
        hub, commit_stats = sources.hub, sources.store.commit_stats
        yield _make_gauge("progressbar_sse_connections", (hub.stream_count,))
        yield _make_counter("progressbar_sse_connections_opened_total", hub.streams_opened)
        yield _make_counter("progressbar_sse_events_sent_total", hub.events_sent)
        yield _make_histogram("progressbar_store_commit_size", commit_stats.sizes)
        yield _make_histogram("progressbar_store_commit_duration_seconds", commit_stats.durations)
        yield _make_counter("progressbar_store_commit_failures_total", commit_stats.failures)
        rows = _make_counter("progressbar_rows_skipped_total")
        for table in get_args(TableName):
            rows.add_metric([table], skipped_rows.counts[table])
        yield rows
        yield _make_gauge("progressbar_store_pending_writes", (sources.store.count_pending_writes(),))
        if (free_bytes := _measure_free_bytes(sources.settings.database)) is not None:
            yield _make_gauge("progressbar_store_free_bytes", (free_bytes,))
        yield _make_gauge("progressbar_notifications_waiting", (sources.notifier.dispatcher.waiting_count,))
        notifications = _make_counter("progressbar_notifications_total")
        for channel, counts in sorted(dict(sources.notifier.dispatcher.counts).items()):
            notifications.add_metric([channel, "delivered"], counts.delivered)
            notifications.add_metric([channel, "failed"], counts.failed)
            notifications.add_metric([channel, "given_up"], counts.given_up)
            notifications.add_metric([channel, "edited"], counts.edited)
        yield notifications
        yield _make_gauge("progressbar_leader", (sources.is_leader(),))
        keys = Counter(key.type for key in sources.keyring.all())
        yield _make_gauge("progressbar_keys", *((keys[type_], type_) for type_ in ("read", "write", "admin")))
        yield _make_gauge("progressbar_sessions", (len(sources.sessions.all(now)),))
        yield _make_gauge("progressbar_shares", (len(sources.shares),))


def _measure_free_bytes(database: Path | str) -> int | None:
    if isinstance(database, str):
        return None
    try:
        return shutil.disk_usage(database.parent).free
    except OSError:
        return None


def _get_state(item: Item, conditions: Conditions, now: float) -> str:
    if conditions.is_stalled(item, now):
        return "stalled"
    return "stuck" if conditions.is_stuck(item, now) else item.status


class _FamilyRegistry:
    """A registry of collected metrics."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Sequence[Family]:
        return self._families


def _make_gauge(name: str, *samples: tuple[float | str, ...]) -> Family:
    metric = _METRICS_BY_NAME[name]
    family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for value, *labels in samples:
        family.add_metric([str(label) for label in labels], float(value))
    return family


def _make_counter(name: str, value: float | None = None) -> CounterMetricFamily:
    metric = _METRICS_BY_NAME[name]
    family = CounterMetricFamily(name, metric.help, labels=metric.labels)
    if value is not None:
        family.add_metric([], value)
    return family


def _make_histogram(name: str, histogram: Histogram | None = None) -> HistogramMetricFamily:
    metric = _METRICS_BY_NAME[name]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    if histogram is not None:
        family.add_metric([], histogram.buckets(), histogram.sum)
    return family
