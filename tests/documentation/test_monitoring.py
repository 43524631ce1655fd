"""Checks the alerts, the scrape configuration and the dashboard against a real ``/metrics`` and with real tools."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from progressbar_tracker.server.metrics import METRIC_DEFINITIONS
from tests.support.connections import open_client
from tests.support.deploy import DEPLOY_FOLDER, find_program, read_deploy_file, replace_all
from tests.support.server import start_server
from tests.support.waiting import wait_until

RULES_TEST_PATH = Path(__file__).with_name("prometheus-rules-test.yml")
ALERT_RULES = [
    rule for group in yaml.safe_load(read_deploy_file("prometheus-rules.yml"))["groups"] for rule in group["rules"]
]
DASHBOARD_DOCUMENT = json.loads(read_deploy_file("grafana-dashboard.json"))
DASHBOARD_PANELS = DASHBOARD_DOCUMENT["panels"]
PANEL_EXPRESSIONS = [
    (panel["title"], target["expr"]) for panel in DASHBOARD_PANELS for target in panel.get("targets", ())
]
VARIABLE_QUERIES = [
    variable["query"]
    for variable in DASHBOARD_DOCUMENT["templating"]["list"]
    if variable["query"].startswith("label_values(")
]
SCRAPE_LABELS = {"job", "instance", "le"}
"""Labels that Prometheus adds, and that of histograms."""


def find_metric_names(expression):
    """Return the names in an expression of PromQL that are metrics of this project or of its process."""
    without_texts = re.sub(r'"[^"]*"', '""', expression)
    return set(re.findall(r"\b(?:progressbar|process)_\w+", without_texts))


def find_label_names(expression):
    """Return the names of labels in matchers and in clauses."""
    matchers = re.findall(r"(\w+)\s*(?:=~|!~|!=|=(?!=))\s*\"", expression)
    clauses = re.findall(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)", expression)
    return {*matchers, *(name.strip() for clause in clauses for name in clause.split(",") if name.strip())}


@pytest.fixture(scope="module")
def exported_names(tmp_path_factory):
    """The names of the samples of a real server."""
    with start_server(tmp_path_factory.mktemp("server") / "progress.db") as server:
        with open_client(server.url, server.create_key("read", "prometheus")) as http:
            wait_until(lambda: "_bucket{" in http.get("/metrics").text)  # a request was counted
            families = list(text_string_to_metric_families(http.get("/metrics").text))
    names = {sample.name for family in families for sample in family.samples}
    # A metric without a sample so far: a counter has the suffix in the name of its samples alone.
    return names | {family.name + ("_total" if family.type == "counter" else "") for family in families}


@pytest.mark.parametrize(
    ("expression", "metrics", "labels"),
    [
        ('up{job="progressbar"} == 0', set(), {"job"}),
        (
            'sum by (le, route) (rate(progressbar_x_bucket{status=~"5.."}[5m])) > 1',
            {"progressbar_x_bucket"},
            {"le", "route", "status"},
        ),
        ("process_a * on (instance) group_left () process_b", {"process_a", "process_b"}, {"instance"}),
    ],
)
def test_names_of_an_expression_are_found(expression, metrics, labels):
    assert (find_metric_names(expression), find_label_names(expression)) == (metrics, labels)


@pytest.mark.parametrize(
    ("title", "expression"),
    [
        *((rule["alert"], rule["expr"]) for rule in ALERT_RULES),
        *PANEL_EXPRESSIONS,
        *(("", q) for q in VARIABLE_QUERIES),
    ],
)
def test_expression_uses_only_exported_metrics(title, expression, exported_names):
    names = find_metric_names(expression)
    assert names or "up{" in expression, title
    assert names - exported_names == set()
    known = SCRAPE_LABELS | {label for metric in METRIC_DEFINITIONS for label in metric.labels}
    assert find_label_names(expression) - known == set()


def test_promtool_accepts_rules():
    promtool = find_program("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", DEPLOY_FOLDER / "prometheus-rules.yml"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_and_is_silent_for_healthy_servers():
    tested = [
        (case["alertname"], bool(case["exp_alerts"]))
        for test in yaml.safe_load(RULES_TEST_PATH.read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
    ]
    assert {(rule["alert"], fires) for rule in ALERT_RULES for fires in (True, False)} <= set(tested)
    promtool = find_program("promtool", "prometheus")
    done = subprocess.run([promtool, "test", "rules", RULES_TEST_PATH], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_scrape_configuration(tmp_path):
    promtool = find_program("promtool", "prometheus")
    (tmp_path / "progressbar.key").write_text("key")
    (tmp_path / "prometheus-rules.yml").write_text(read_deploy_file("prometheus-rules.yml"))
    config = replace_all(
        read_deploy_file("prometheus.yml"), ("/etc/prometheus/progressbar.key", str(tmp_path / "progressbar.key"))
    )
    (tmp_path / "prometheus.yml").write_text(config)
    command = [promtool, "check", "config", tmp_path / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {f'"{job["job_name"]}"' for job in yaml.safe_load(config)["scrape_configs"]} == {
        name for rule in ALERT_RULES for name in re.findall(r"job=(\"\w+\")", rule["expr"])
    }


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path):
    promtool = find_program("promtool", "prometheus")
    rules = [
        {"record": f"panel_{n}", "expr": expression.replace("$__rate_interval", "5m")}
        for n, (_, expression) in enumerate(PANEL_EXPRESSIONS)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    command = [promtool, "check", "rules", tmp_path / "rules.yml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def find_losses(given, loaded, path="dashboard"):
    """Return the fields of a document that its schema does not have, or reads differently."""
    if isinstance(given, dict) and isinstance(loaded, dict):
        return [
            loss
            for name, value in given.items()
            for loss in (find_losses(value, loaded[name], f"{path}.{name}") if name in loaded else [f"{path}.{name}"])
        ]
    if isinstance(given, list) and isinstance(loaded, list) and len(given) == len(loaded):
        return [
            loss for n, pair in enumerate(zip(given, loaded, strict=True)) for loss in find_losses(*pair, f"{path}.{n}")
        ]
    return [] if given == loaded else [path]


def load_by_schema(document):
    """Return a dashboard as Grafana's published schema understands it."""
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="needs grafana-foundation-sdk")
    from grafana_foundation_sdk.cog import plugins
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    plugins.register_default_plugins()
    return json.loads(JSONEncoder().encode(sdk.Dashboard.from_json(document)))


def test_dashboard_is_valid_by_the_schema_of_grafana():
    assert find_losses(DASHBOARD_DOCUMENT, load_by_schema(DASHBOARD_DOCUMENT)) == []


def test_schema_of_grafana_finds_an_unknown_field():
    broken = json.loads(json.dumps(DASHBOARD_DOCUMENT))
    next(panel for panel in broken["panels"] if panel["type"] == "stat")["options"]["colour"] = "red"
    broken["panel"] = []
    assert len(find_losses(broken, load_by_schema(broken))) == 2


def test_panels_of_the_dashboard_have_unique_ids_and_known_types():
    ids = [panel["id"] for panel in DASHBOARD_PANELS]
    assert len(ids) == len(set(ids))
    assert {panel["type"] for panel in DASHBOARD_PANELS} <= {"row", "stat", "table", "timeseries"}
    assert all(panel.get("targets") for panel in DASHBOARD_PANELS if panel["type"] != "row")
    for panel in DASHBOARD_PANELS:
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(references) == len(set(references))


def test_panels_of_the_dashboard_do_not_overlap():
    cells = [
        (x, y)
        for panel in DASHBOARD_PANELS
        for grid in [panel["gridPos"]]
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_dashboard_uses_only_its_own_variables():
    declared = {variable["name"] for variable in DASHBOARD_DOCUMENT["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD_DOCUMENT))) - {"__rate_interval"}
    assert used == declared
