"""The phrases about time and the amounts: the modules of Python and of the pages pass the same table of cases."""

from __future__ import annotations

import json
import math
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from progressbar_tracker import _amounts, _phrases, _text
from progressbar_tracker._reader_clock import UTC_CLOCK, Clock
from progressbar_tracker.cli.table import format_took
from progressbar_tracker.server.models import rfc3339

PHRASE_CASES = json.loads(Path(__file__).with_name("phrase_cases.json").read_text("utf-8"))
NOW = datetime(2026, 11, 30, 16, 54, tzinfo=UTC).timestamp()
AMOUNT_PHRASES = frozenset({"item_count", "item_percent", "rate"})
TIMELESS_PHRASES = AMOUNT_PHRASES | {
    "basis",
    "usual_duration",
    "estimated_total",
    "success_rate",
    "usual_range",
    "stop",
}
DURATION_CASES = {
    0: "0 s", 0.49: "0 s", 0.5: "1 s", 12.87: "13 s", 59.4: "59 s", 59.5: "1 min", 60: "1 min", 61.49: "1 min 1 s",
    302.6: "5 min 3 s", 3599.4: "59 min 59 s", 3599.5: "1 h", 3700: "1 h 2 min", 86400: "24 h", 100_000: "27 h 47 min",
    172_769: "47 h 59 min", 172_770: "2 days", 200_000: "2 days 8 h", 999_999_999: "11574 days 2 h", 1e9: "ages",
}  # fmt: skip
UNIT_SECONDS = {"s": 1, "min": 60, "h": 3600, "days": 86400}

# Imports the modules of the page, and renders each case.
RENDER_CASES = """async (cases) => {
  const load = (name) => import(`${location.origin}/static/${name}.js`);
  const [amounts, times, { createClock }] = await Promise.all(["format", "phrases", "clock"].map(load));
  const phrases = { ...amounts, ...times };
  return cases.map(({ phrase, item, now, zone, locale }) => {
    const name = "format" + phrase.split("_").map((word) => word[0].toUpperCase() + word.slice(1)).join("");
    if (now === undefined) return phrases[name](item);
    return phrases[name](item, Date.parse(now), zone === undefined ? undefined : createClock(locale, zone));
  });
}"""


def render(case):
    """Return the phrase of a case in Python."""
    module = _amounts if case["phrase"] in AMOUNT_PHRASES else _phrases
    function = getattr(module, f"format_{case['phrase']}")
    if case["phrase"] in TIMELESS_PHRASES:
        return function(case["item"])
    now = datetime.fromisoformat(case["now"]).timestamp()
    if "zone" not in case:
        return function(case["item"], now)
    return function(case["item"], now, Clock(ZoneInfo(case["zone"]), case["locale"]))


def build_random_cases(count):
    """Return cases with estimates of every size and interval."""
    chance = random.Random(15)
    cases = []
    for n in range(count):
        eta = round(math.exp(chance.uniform(0, 16)), 3)
        finish_at = NOW + eta
        item = {
            "eta": eta, "eta_low": eta * chance.random(), "eta_high": eta * (1 + chance.expovariate(2)),
            "finish_at": rfc3339(finish_at), "started_at": rfc3339(NOW - eta * chance.random()), "slower": True,
            "usual_duration_seconds": eta * chance.random(), "usual_gap_seconds": chance.expovariate(1 / 60),
            "updated_at": rfc3339(NOW - chance.expovariate(1 / 600)), "estimated_total": eta,
        }  # fmt: skip
        now = rfc3339(NOW + eta * chance.uniform(0, 1.2))
        for phrase in ("estimate", "short_estimate"):
            zone = ("Europe/Berlin", "America/St_Johns", "Pacific/Apia")[n % 3]
            cases.append(
                {"phrase": phrase, "item": item, "now": now, "zone": zone, "locale": ("en-GB", "en-US")[n % 2]}
            )
        phrases = ("slowness", "silence", "estimated_total", "usual_duration")
        cases += [{"phrase": phrase, "item": item, "now": now} for phrase in phrases]
        amounts = {
            "status": ("running", "succeeded")[n % 2], "value": chance.random(), "unit": ("B", "rows", "")[n % 3],
            "completed": int(math.exp(chance.uniform(0, 45))), "total": int(math.exp(chance.uniform(0, 45))),
            "rate": math.exp(chance.uniform(-15, 40)),
        }  # fmt: skip
        cases += [{"phrase": phrase, "item": amounts} for phrase in sorted(AMOUNT_PHRASES)]
    return cases


def parse_remaining(text):
    """Return the seconds of a text such as ``~2 h 10 min left``."""
    amount = text.removesuffix(" left").removeprefix("~")
    if amount == "a few seconds":
        return 0
    return sum(int(number) * UNIT_SECONDS[unit] for number, unit in re.findall(r"(\d+) (\w+)", amount))


@pytest.mark.parametrize("case", PHRASE_CASES, ids=lambda case: f"{case['case']}, {case['phrase']}")
def test_python_phrase_passes_the_table(case):
    assert render(case) == case["text"]


def test_browser_phrase_passes_the_table(anonymous_page, server):
    anonymous_page.goto(f"{server.background.url}/login")
    texts = anonymous_page.evaluate(RENDER_CASES, PHRASE_CASES)
    assert [(case["case"], text) for case, text in zip(PHRASE_CASES, texts, strict=True)] == [
        (case["case"], case["text"]) for case in PHRASE_CASES
    ]


@pytest.mark.parametrize(("seconds", "text"), DURATION_CASES.items())
def test_python_duration_passes_the_table(seconds, text):
    assert _text.format_duration(seconds) == text


def test_browser_duration_passes_the_table(anonymous_page, server):
    chance = random.Random(7)
    cases = list(DURATION_CASES.items())
    cases += [
        (seconds, _text.format_duration(seconds)) for seconds in (math.exp(chance.uniform(-2, 21)) for _ in range(2000))
    ]
    anonymous_page.goto(f"{server.background.url}/login")
    texts = anonymous_page.evaluate(
        "async (cases) => {"
        " const { formatDuration } = await import(`${location.origin}/static/format.js`);"
        " return cases.map(([seconds]) => [seconds, formatDuration(seconds)]); }",
        cases,
    )
    assert texts == [list(case) for case in cases]


@pytest.mark.parametrize("seconds", [0.7, 12.87, 94.6, 599.5, 3599.6, 7000.2, 100_000.5, 400_000.4])
def test_single_run_took_what_its_runs_usually_take(seconds):
    ended_at = {"started_at": rfc3339(NOW), "ended_at": rfc3339(NOW + seconds)}
    statistics = {f"{name}_duration_seconds": seconds for name in ("low", "median", "high")}
    assert f"usually {format_took(ended_at)}" == _phrases.format_usual_range(statistics)


def test_browser_and_python_agree_on_random_items(anonymous_page, server):
    cases = build_random_cases(200)
    anonymous_page.goto(f"{server.background.url}/login")
    assert anonymous_page.evaluate(RENDER_CASES, cases) == [render(case) for case in cases]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, [], {}, "", "NaN", True])
def test_phrase_of_an_invalid_field_never_raises(value):
    fields = (
        "eta", "eta_low", "eta_high", "finish_at", "updated_at", "progressed_at", "started_at", "deadline", "total",
        "usual_gap_seconds", "usual_duration_seconds", "estimated_total", "basis", "unit", "heartbeat_timeout",
        "completed", "rate", "value", "estimated_value",
        "run_count", "success_rate", "median_duration_seconds", "low_duration_seconds", "usual_start_seconds",
    )  # fmt: skip
    valid = {"eta": 60.0, "finish_at": rfc3339(NOW + 60), "slower": True, "late": True}
    for item in ({**valid, "stuck": is_stuck, name: value} for name in fields for is_stuck in (False, True)):
        for phrase in {case["phrase"] for case in PHRASE_CASES}:
            text = render({"phrase": phrase, "item": item, "now": rfc3339(NOW)})
            assert not re.search(r"nan|inf|None|-\d", text)


def test_remaining_time_never_grows_while_time_passes():
    chance = random.Random(15)
    for _ in range(25):
        eta = math.exp(chance.uniform(3, 16))
        item = {"eta": eta, "eta_low": 0.0, "eta_high": eta * (1 + chance.random()), "finish_at": rfc3339(NOW + eta)}
        seconds, elapsed = math.inf, 0.0
        while elapsed < eta:
            texts = _phrases.describe_estimate(item, NOW + elapsed, UTC_CLOCK)
            before, seconds = seconds, parse_remaining(texts.remaining)
            assert seconds <= before
            elapsed += (eta - elapsed) * 0.02 + 0.1


def test_rounding_stays_within_half_of_the_interval():
    chance = random.Random(15)
    for _ in range(300):
        eta = math.exp(chance.uniform(6, 14))
        high = eta * (1 + chance.uniform(0.2, 1))
        item = {"eta": eta, "eta_low": eta / 2, "eta_high": high, "finish_at": rfc3339(NOW + eta)}
        texts = _phrases.describe_estimate(item, NOW, UTC_CLOCK)
        assert abs(parse_remaining(texts.remaining) - eta) <= (high - eta) / 2


def test_clock_times_stay_until_the_evidence_changes():
    item = {"eta": 1860.0, "eta_low": 1500.0, "eta_high": 2820.0, "finish_at": rfc3339(NOW + 1860)}
    clocks = set()
    for second in range(0, 1500, 7):
        # The server serializes the item again; it rounds to milliseconds.
        item |= {name: round(item[name] - 7 + 0.0004, 3) for name in ("eta", "eta_low", "eta_high")} if second else {}
        texts = _phrases.describe_estimate(item, NOW + second, UTC_CLOCK)
        clocks.add((texts.finish, texts.low, texts.high))
    assert clocks == {("17:25 UTC", "17:19", "17:41 UTC")}


def test_default_clock_is_in_the_zone_of_the_process():
    local = (datetime.fromtimestamp(NOW, UTC).astimezone() + timedelta(minutes=31)).strftime("%H:%M")
    item = {"eta": 1860.0, "finish_at": rfc3339(NOW + 1860)}
    assert _phrases.format_short_estimate(item, NOW, Clock()).endswith(local)
