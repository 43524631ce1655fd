"""The page of the metrics, from the list of their definitions."""

from __future__ import annotations

from progressbar_tracker.server.metrics import METRIC_DEFINITIONS

from .markdown import end_sentence, render_table

HEAD_TEXT = """\
# Metrics

`/metrics` serves the metrics of one server in Prometheus's text format. A read key or better is needed, unless the
server runs with `--public-read`. Prometheus reads the key from a file:

```yaml
scrape_configs:
  - job_name: progressbar-tracker
    authorization:
      credentials_file: /etc/prometheus/progressbar.key
    static_configs:
      - targets: ["localhost:8989"]
```

With several servers on one database, each of them has its own metrics. `progressbar_leader` is 1 on the server that
runs background maintenance for all.

## All metrics

"""


def render_page() -> str:
    rows = [
        (f"`{metric.name}`", metric.type, " ".join(f"`{label}`" for label in metric.labels), end_sentence(metric.help))
        for metric in METRIC_DEFINITIONS
    ]
    return HEAD_TEXT + render_table(("Name", "Type", "Labels", "Meaning"), rows) + "\n"
