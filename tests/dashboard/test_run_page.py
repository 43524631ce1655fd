"""The page of one run."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

pytest.importorskip("playwright.sync_api", reason="install playwright to test the pages in a browser")

from playwright.sync_api import expect

from .test_item_page import add_run, find_field, is_marked, mark


def test_page_of_an_ended_run_shows_that_run(server, visit, job):
    add_run(server, job, "bad", seconds=61, status="failed", ago=3600, title="Import", meta={"host": "box-7"})
    add_run(server, job, "good")
    server.put(job, run_id="now", value=0.1)
    page = visit(f"items/{job}?run=bad")
    expect(find_field(page, "state")).to_have_text("failed")
    expect(find_field(page, "ended")).to_contain_text("took 1 min 1 s, ended ")
    expect(page.locator(".bar .error-text")).to_contain_text("OSError: gone")
    expect(page.locator("dl.facts")).to_contain_text("box-7")
    expect(page.locator(".curve polyline.current")).to_have_attribute("points", re.compile(r" "))
    expect(page.locator(".trend .run-mark.shown")).to_have_attribute("data-run", "bad")


def test_run_page_leads_to_its_neighbours_and_its_item(server, visit, job):
    for n, run_id in enumerate(("one", "two", "three")):
        add_run(server, job, run_id, ago=3000 - 1000 * n)
    page = visit(f"items/{job}?run=two")
    navigation = page.get_by_role("navigation", name="Runs")
    navigation.get_by_role("link", name="Next run").click()
    expect(page).to_have_url(re.compile(r"\?run=three$"))
    expect(navigation.get_by_text("Next run")).not_to_have_attribute("href", re.compile("."))
    navigation.get_by_role("link", name="Previous run").click()
    expect(page).to_have_url(re.compile(r"\?run=two$"))
    page.get_by_role("link", name="This item", exact=True).click()
    expect(page).to_have_url(re.compile(rf"/items/{job}$"))


HOSTILE_RUNS = [("a/b?c#d%2e", "r/1?x#y%"), ("..", ".."), (".", "<b>"), ("ü 😀", "a&run=b c+d")]


def test_run_of_any_id_has_a_page(server, visit):
    server.batch([
        {"op": "put", "id": item_id, "run_id": run_id, "title": f"Title of {item_id}", "status": "failed"}
        for item_id, run_id in HOSTILE_RUNS
    ])  # fmt: skip
    server.clear()
    page = visit("history")
    for item_id, run_id in HOSTILE_RUNS:
        page.goto(f"{server.background.url}/history?id={quote(item_id, safe='')}")
        page.get_by_role("link", name=f"Title of {item_id}", exact=True).first.click()
        expect(page.locator("h1")).to_have_text(f"Title of {item_id}")
        expect(page.locator("dl.facts")).to_contain_text(run_id)
        expect(find_field(page, "state")).to_have_text("failed")


def test_current_run_is_live_and_stays_when_it_ends(server, visit, job):
    server.put(job, run_id="now", value=0.1)
    page = visit(f"items/{job}?run=now")
    expect(find_field(page, "percent")).to_have_text("10 %")
    mark(page)
    server.patch(job, value=0.5)
    expect(find_field(page, "percent")).to_have_text("50 %")
    server.patch(job, status="stopped")
    server.put(job, run_id="next", value=0.2, status="running")
    expect(find_field(page, "state")).to_have_text("stopped")
    expect(find_field(page, "percent")).to_have_text("50 %")
    expect(page.get_by_role("link", name="Next run")).to_have_attribute("href", re.compile(r"\?run=next$"))
    assert is_marked(page)


def test_children_of_another_run_are_not_listed(server, visit, job):
    for n in (1, 2):
        server.put(job, run_id=f"r{n}", value=0.1, age_seconds=100)
        server.put(f"{job}/{n}", title=f"Epoch of {n}", parent=job, run_id="c", age_seconds=90)
        server.patch(f"{job}/{n}", status="succeeded", age_seconds=90, duration_seconds=5 if n == 1 else 80)
        server.delete(f"{job}/{n}")
        server.patch(job, status="succeeded", age_seconds=100, duration_seconds=20 if n == 1 else 95)
        server.delete(job)
    page = visit(f"items/{job}?run=r1")
    expect(page.locator(".child-row")).to_contain_text(["Epoch of 1"])


def test_neighbours_of_an_old_run_are_searched(server, visit):
    page = visit("history")
    pages = {"": ([f"r{n}" for n in range(300, 200, -1)], "7"), "7": (["r200", "r199", "r198"], None)}

    def answer(route):
        after = re.search(r"after=(\w+)", route.request.url)
        run_ids, following = pages[after[1] if after else ""]
        link = {} if following is None else {"Link": f'<history?after={following}>; rel="next"'}
        route.fulfill(json={"items": [{"run_id": run_id} for run_id in run_ids]}, headers=link)

    page.route("**/api/v1/history?*", answer)
    neighbours = page.evaluate(
        """async (runIds) => {
          const { searchNeighbours } = await import(`${location.origin}/static/run_data.js`);
          return Promise.all(runIds.map((runId) => searchNeighbours("a", runId, new AbortController().signal)));
        }""",
        ["r201", "r199", "r198", "other"],
    )
    assert [(found["previous"], found["next"]) for found in neighbours] == [
        ("r200", "r202"), ("r198", "r200"), (None, "r199"), (None, None)
    ]  # fmt: skip
