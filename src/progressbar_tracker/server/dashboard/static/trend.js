// The trend of an id: how long its last runs took, with the median and the range of most. Each run links to its page.

import { Chart, createAxes, createLegendEntry, round } from "./chart.js";
import { createDurationTicks, createScale } from "./chart_axes.js";
import { formatDate } from "./dates.js";
import { createElement, createSvg } from "./dom.js";
import { ICONS } from "./format.js";
import { countColumns, describeRun, findTop, mergeRuns, placeRuns } from "./trend_layout.js";
import { runPageUrl } from "./urls.js";

/** @typedef {ReturnType<typeof placeRuns>[number]} Place */

const MARK_SIZE = 4; // pixels from its centre to its edge

/** The figure of a trend. */
export class TrendFigure {
  /** @param {string} id the item */
  constructor(id) {
    this.id = id;
    /** @type {RunStatistics | null} */
    this.statistics = null;
    /** @type {WireItem | null} */
    this.item = null;
    /** @type {string | null} the run of this page */
    this.shownRun = null;
    this.now = 0;
    this.chart = new Chart("trend", "Duration of the last runs", () => this.draw());
    this.figure = this.chart.figure;
    this.chart.svg.setAttribute("role", "group");
    this.chart.svg.setAttribute("aria-label", "Duration of the last runs, oldest first. The arrow keys move between runs.");
    this.chart.svg.addEventListener("keydown", (event) => this.#moveFocus(event));
  }

  /**
   * Shows runs.
   *
   * @param {RunStatistics} statistics
   * @param {WireItem | null} item the item on the board
   * @param {number} now the server's time in milliseconds
   * @param {string | null} shownRun the run of this page
   */
  show(statistics, item, now, shownRun) {
    this.statistics = statistics;
    this.item = item;
    this.now = now;
    this.shownRun = shownRun;
    this.draw();
  }

  draw() {
    const { statistics, chart } = this;
    if (statistics === null) return;
    const merged = mergeRuns(statistics.runs, this.item, this.now);
    this.figure.hidden = merged.length < 2;
    if (this.figure.hidden) return;
    chart.width ||= Math.floor(chart.svg.getBoundingClientRect().width);
    const runs = merged.slice(-countColumns(chart.width));
    const top = findTop(runs, statistics);
    const ticks = createDurationTicks(top, 4);
    const box = chart.measure(ticks.map((tick) => tick.text));
    const y = createScale(top, box.bottom, box.top);
    const places = placeRuns(runs, top, box);
    const focused = /** @type {SVGElement | null} */ (chart.svg.querySelector("a:focus"))?.dataset.run;
    chart.svg.replaceChildren(
      createAxes(box, { ticks: createDates(places, box.em), scale: (x) => x, title: "" }, { ticks, scale: y, title: "duration" }),
      ...createBand(statistics, y, box),
      ...places.map((place) => this.#createRun(place, box)),
    );
    const links = [...chart.svg.querySelectorAll("a")];
    const link = links.find((candidate) => candidate.dataset.run === focused);
    (link ?? links.at(-1))?.setAttribute("tabindex", "0");
    link?.focus({ preventScroll: true });
    this.#describe(runs);
  }

  /** @param {PastRun[]} runs */
  #describe(runs) {
    const statuses = /** @type {RunStatus[]} */ (["succeeded", "failed", "stopped", "deleted", "running"]).filter((status) => runs.some((run) => run.status === status));
    const entries = statuses.map((status) =>
      createElement("span", { class: status }, createElement("span", { class: "icon", "aria-hidden": "true" }, ICONS[status]), ` ${status}`),
    );
    if (this.statistics !== null && this.statistics.median_duration_seconds !== null) {
      entries.push(createLegendEntry("median", "median"), createLegendEntry("band", "10 to 90 %"));
    }
    this.chart.legend.replaceChildren(...entries);
  }

  /**
   * @param {Place} place
   * @param {import("./chart.js").Box} box
   */
  #createRun(place, box) {
    const { run, step } = place;
    const [x, y] = [round(place.x), round(place.y)];
    const text = describeRun(run);
    const isShown = run.run_id === this.shownRun;
    const link = createSvg(
      "a",
      {
        href: runPageUrl(this.id, run.run_id), class: `run-mark ${run.status}${isShown ? " shown" : ""}`, "aria-label": text, tabindex: "-1",
        "data-run": run.run_id, "aria-current": isShown && "true",
      },
      // The target is as high as the plot.
      createSvg("rect", { class: "target", x: round(place.x - step / 2), y: box.top, width: round(step), height: box.bottom - box.top }),
      createSvg("line", { class: "stem", x1: x, x2: x, y1: box.bottom, y2: y }),
      createMark(run.status, x, y),
    );
    if (place.isClipped) link.append(createSvg("path", { class: "clip", d: `M${x - 3},${y - 7}l3,-4l3,4` }));
    const show = () => this.chart.showTip(text, x, y);
    for (const name of ["pointerenter", "focus"]) link.addEventListener(name, show);
    for (const name of ["pointerleave", "blur"]) link.addEventListener(name, () => this.chart.hideTip());
    return link;
  }

  /** @param {KeyboardEvent} event */
  #moveFocus(event) {
    const links = [...this.chart.svg.querySelectorAll("a")];
    const from = links.findIndex((link) => link === document.activeElement);
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: links.length - 1 }[event.key];
    const link = to === undefined || from < 0 ? undefined : links[to];
    if (link === undefined) return;
    event.preventDefault();
    links[from]?.setAttribute("tabindex", "-1");
    link.setAttribute("tabindex", "0");
    link.focus();
  }
}

/**
 * Creates the mark of a status; statuses differ in shape.
 *
 * @param {RunStatus} status
 * @param {number} x
 * @param {number} y
 */
function createMark(status, x, y) {
  const s = MARK_SIZE;
  if (status === "failed") return createSvg("path", { class: "run-dot cross", d: `M${x - s},${y - s}l${2 * s},${2 * s}m0,${-2 * s}l${-2 * s},${2 * s}` });
  if (status !== "succeeded" && status !== "running") return createSvg("rect", { class: `run-dot${status === "stopped" ? "" : " hollow"}`, x: x - s + 0.5, y: y - s + 0.5, width: 2 * s - 1, height: 2 * s - 1 });
  return createSvg("circle", { class: `run-dot${status === "running" ? " hollow" : ""}`, cx: x, cy: y, r: s });
}

/**
 * Creates the band of most durations, and the line of their median.
 *
 * @param {RunStatistics} statistics
 * @param {(seconds: number) => number} y
 * @param {import("./chart.js").Box} box
 */
function createBand({ low_duration_seconds: low, high_duration_seconds: high, median_duration_seconds: median }, y, box) {
  if (median === null) return [];
  const parts = [];
  const [left, width] = [box.left, box.right - box.left];
  if (low !== null && high !== null) {
    parts.push(createSvg("rect", { class: "band", x: left, width, y: round(y(high)), height: Math.max(round(y(low) - y(high)), 1) }));
  }
  parts.push(createSvg("line", { class: "median", x1: left, x2: box.right, y1: round(y(median)), y2: round(y(median)) }));
  return parts;
}

/**
 * Returns the dates below a trend: that of the first, the last and the middle run, if there is room.
 *
 * @param {Place[]} places
 * @param {number} em
 */
function createDates(places, em) {
  const last = places.length - 1;
  const room = (/** @type {Place} */ (places[last]).x - /** @type {Place} */ (places[0]).x) / em;
  const chosen = room > 32 ? [0, Math.round(last / 2), last] : room > 16 ? [0, last] : [last];
  return chosen.map((n) => {
    const { x, run } = /** @type {Place} */ (places[n]);
    return { value: x, text: formatDate(run.started_at) };
  });
}
