"""How right an ETA is: ``python tests/benchmarks/eta.py [--traces FILE] [--hang] [--json] [--quick]``.

Replays traces of real jobs, recorded by ``eta_replay/record.py``: 22 kinds, 8 to 11 runs each of 10 to 120 s. Half of
the kinds served to tune the estimator, the other half is held out: alternately, in the order of their names. Only the
width of the intervals was set after a look at both halves, and at synthetic jobs. The runs of a kind are stretched so
that they last 1 min, 10 min and 1 h on average. Each estimate is scored at 5, 10, ... 95 % of the elapsed time,
without history and with the 3 or 6 latest earlier runs of the same kind; a run with fewer earlier ones does not count
there. All columns but coverage and missing are in % of the run's duration:

* error: mean distance of the predicted finish from the true one.
* jump: mean movement of the predicted finish from one moment to the next, 5 % of the run later.
* coverage, width: share of the 80 % intervals that contain the true finish (80 is right), and their mean width.
* early: the part of the time after which the error stays below 10 % of the run.
* missing: moments without an estimate. They score as elapsed/n; before the first item, as twice the run.

``--hang`` prints false alarms and reported hangs of replays of the held-out kinds, see ``eta_replay/hangs.py``.
``--traces`` reads other jobs instead, one JSON object a line: ``{"job": "sync", "run": 1, "n": 3, "t": [1.5, 2, 4]}``,
with the seconds since the start at which each item ended.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
from pathlib import Path

from eta_replay.hangs import HangResult, find_upper_bound, replay_hangs
from eta_replay.ours import predict_ours
from eta_replay.peers import PEERS_BY_NAME
from eta_replay.scoring import mean_score, score_contender
from eta_replay.traces import PACKED_PATH, TraceError, read_traces, scale_runs, split_kinds, unpack_traces
from harness import print_table

OUR_NAME = "progressbar-tracker"
MEDIAN_NAME = "median of former runs"
SCALE_SECONDS = {"1 min": 60.0, "10 min": 600.0, "1 h": 3600.0}
FORMER_COUNTS = (0, 3, 6)
MIN_HANG_REPLAYS = 3000
"""For each number of former runs."""


def score_jobs(jobs, scales=SCALE_SECONDS):
    """Return the score of each contender by scale and number of former runs, with the number of scored runs."""
    results = {}
    for scale, seconds in scales.items():
        stretched = [scale_runs(runs, seconds) for runs in jobs.values()]
        alone = {
            name: [score_contender(peer, runs, 0) for runs in stretched]
            for name, peer in PEERS_BY_NAME.items()
            if name != MEDIAN_NAME
        }
        for count in FORMER_COUNTS:
            scores = {OUR_NAME: [score_contender(predict_ours, runs, count) for runs in stretched]}
            scores |= {name: [found[count:] for found in by_job] for name, by_job in alone.items()}
            if count:
                scores[MEDIAN_NAME] = [score_contender(PEERS_BY_NAME[MEDIAN_NAME], runs, count) for runs in stretched]
            number = sum(map(len, scores[OUR_NAME]))
            if number:
                means = {
                    name: mean_score([one for found in by_job for one in found]) for name, by_job in scores.items()
                }
                results[scale, count] = number, means
    return results


def print_results(title, results):
    """Print one table for each scale and number of former runs."""
    heads = ["", "error", "jump", "coverage", "width", "early", "missing", "error / tqdm's"]
    for (scale, count), (number, means) in results.items():
        rows = [
            [
                name,
                *("-" if math.isnan(value) else f"{100 * value:.1f}" for value in score),
                f"{score.error / means['tqdm'].error:.2f}",
            ]
            for name, score in means.items()
        ]
        history = f"{count} former runs" if count else "without history"
        print_table(f"{title}, scaled to {scale} on average, {history}, {number} runs scored", heads, rows)


def list_results(results):
    """Return the results as objects for JSON."""
    return [
        {
            "scale": scale,
            "former_runs": count,
            "scored_runs": number,
            "contenders": {
                name: {field: None if math.isnan(value) else value for field, value in score._asdict().items()}
                for name, score in means.items()
            },
        }
        for (scale, count), (number, means) in results.items()
    ]


def summarize_hangs(jobs, replays):
    """Return the figures of replays with and without hangs, by scale and number of former runs, and over all scales."""
    figures = []
    for count in FORMER_COUNTS:
        found = {
            scale: replay_hangs(jobs, seconds, count, replays // len(SCALE_SECONDS))
            for scale, seconds in SCALE_SECONDS.items()
        }
        found["all"] = HangResult(*map(sum, zip(*found.values(), strict=True)))
        figures += [
            {
                "scale": scale,
                "former_runs": count,
                "replays": result.replays,
                "false_alarms": result.false_alarms,
                "false_alarm_share": result.false_alarms / result.replays,
                "false_alarm_share_bound_95": find_upper_bound(result.false_alarms, result.replays),
                "reported_in_time": result.in_time,
                "reported_in_time_share": result.in_time / result.replays,
            }
            for scale, result in found.items()
            if result.replays
        ]
    return figures


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a few runs only: shows that it works; figures mean little"
    )
    parser.add_argument("--traces", type=Path, metavar="FILE", help="other traces, one JSON object a line")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--hang", action="store_true", help="inject hangs: print false alarms and reported hangs")
    return parser.parse_args()


def load_groups(options):
    """Return the jobs to score, by the title of their tables."""
    if options.traces:
        try:
            with options.traces.open(encoding="utf-8") as lines:
                return {"Jobs of the file": read_traces(lines)}
        except (OSError, UnicodeDecodeError, TraceError) as error:
            sys.exit(f"eta.py: {options.traces}: {error}")
    jobs = unpack_traces(PACKED_PATH.read_bytes())
    groups = zip(("Kinds for tuning", "Held-out kinds"), split_kinds(jobs), strict=True)
    return {title: {name: jobs[name] for name in names} for title, names in groups}


def main():
    options = parse_arguments()
    groups = load_groups(options)
    if options.quick:
        groups = {title: {name: runs[:4] for name, runs in list(jobs.items())[:2]} for title, jobs in groups.items()}
    if options.hang:
        *_, jobs = groups.values()
        figures = summarize_hangs(jobs, 60 if options.quick else MIN_HANG_REPLAYS)
        if options.json:
            print(json.dumps(figures, indent=1))
            return
        heads = ["scale", "former runs", "replays", "false alarms", "share", "95 % bound", "hangs reported in time"]
        rows = [
            [
                found["scale"],
                found["former_runs"],
                found["replays"],
                found["false_alarms"],
                f"{100 * found['false_alarm_share']:.2f} %",
                f"{100 * found['false_alarm_share_bound_95']:.2f} %",
                f"{100 * found['reported_in_time_share']:.1f} %",
            ]
            for found in figures
        ]
        print_table(f"{', '.join(jobs)}: in time is 10 x the longest gap, or 60 s", heads, rows)
        return
    results = {title: score_jobs(jobs) for title, jobs in groups.items()}
    if options.json:
        print(json.dumps({title: list_results(found) for title, found in results.items()}, indent=1))
        return
    quick = ", --quick: the figures mean little" if options.quick else ""
    print(f"{platform.python_implementation()} {platform.python_version()}{quick}; figures in %")
    for title, jobs in groups.items():
        print(f"{title}: {', '.join(jobs)}")
    for title, found in results.items():
        print_results(title, found)


if __name__ == "__main__":
    main()
