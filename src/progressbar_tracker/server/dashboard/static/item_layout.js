// The elements of the item page and the run page.

import { createBar } from "./bar.js";
import { Bell, hasBells } from "./bell.js";
import { ChildList } from "./children.js";
import { createCopyButton } from "./clipboard.js";
import { CurveFigure } from "./curve.js";
import { createElement } from "./dom.js";
import { Facts } from "./item_facts.js";
import { OutputTail } from "./output_tail.js";
import { PartList } from "./parts.js";
import { StopButton } from "./stop.js";
import { TrendFigure } from "./trend.js";
import { ROOT, historyPageUrl, itemPageUrl } from "./urls.js";

/**
 * Creates the elements of a page below its container.
 *
 * @param {HTMLElement} container
 * @param {string} id
 * @param {string | null} runId the run of a run page
 */
export function createLayout(container, id, runId) {
  const layout = {
    bar: createBar("h1"),
    curve: new CurveFigure(),
    trend: new TrendFigure(id),
    facts: new Facts(),
    children: new ChildList(id),
    parts: new PartList(),
    tail: new OutputTail(id, container.hasAttribute("data-read-tail")),
    navigation: createElement("nav", { class: "run-navigation", "aria-label": "Runs", hidden: runId === null }),
    goneNotice: createElement("p", { id: "gone-notice", class: "notice", hidden: true }, "This item is no longer on the board; this is how its last run ended."),
    problem: createElement("p", { class: "notice", role: "alert", hidden: true }),
    habits: createElement("ul", { class: "habits", hidden: true, "aria-label": "Former runs" }),
    runs: createElement("div", {}),
    stop: new StopButton(container.dataset),
    bell: hasBells() ? new Bell("secondary", " Notify me…") : null,
    allRuns: createElement("p", { hidden: true }, createElement("a", { href: historyPageUrl({ id }) }, "All runs of this item")),
  };
  const share = new URL("keys", ROOT);
  share.searchParams.set("share", id);
  share.hash = "shares";
  container.replaceChildren(
    layout.navigation,
    layout.goneNotice,
    layout.bar,
    layout.problem,
    layout.stop.result,
    createElement(
      "div",
      { class: "item-strip" },
      layout.habits,
      createElement(
        "p",
        { class: "item-actions" },
        runId !== null && createElement("a", { class: "button secondary", href: itemPageUrl(id) }, "This item"),
        layout.stop.node,
        layout.bell?.node,
        createCopyButton("Copy link", () => location.href),
        container.hasAttribute("data-admin") && createElement("a", { class: "button secondary", href: share.href }, "Share this item…"),
      ),
    ),
    createElement("div", { class: "charts" }, layout.curve.figure, layout.trend.figure),
    layout.facts.list,
    layout.tail.section,
    layout.children.section,
    layout.parts.section,
    createElement(
      "section",
      { class: "item-runs" },
      createElement("h2", {}, "Runs"),
      layout.runs,
      layout.allRuns,
    ),
  );
  return layout;
}
