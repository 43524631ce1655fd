// A timeline on the page: a canvas, the labels of its rows, and the cursor. It draws at most once a frame.

import { viewerClock } from "./clock.js";
import { createElement } from "./dom.js";
import { ICONS, itemUrl } from "./format.js";
import { createGeometry, findRow, layOutRows } from "./timeline.js";
import { drawAxis, drawLanes, prepareCanvas } from "./timeline_canvas.js";
import { RunCursor } from "./timeline_cursor.js";
import { readPalette } from "./timeline_palette.js";
import { chooseTicks } from "./timeline_view.js";

/** @typedef {import("./timeline.js").Row} Row */
/** @typedef {import("./timeline.js").View} View */
/** @typedef {import("./timeline.js").Layout} Layout */
/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */

/**
 * @typedef {object} ChartOptions
 * @property {() => number} now
 * @property {string | null} root Leads to the root of the dashboard. Null without pages of runs.
 * @property {(view: View) => void} onViewChange The viewer has zoomed or moved the timeline.
 * @property {Storage | null} storage Remembers the folded groups.
 * @property {boolean} [withHeadings]
 */

const OVERSCAN_PX = 400; // drawn above and below the window, so that scrolling rarely draws
const MAX_PRINTED_PX = 6000;
const NARROW_PX = 640;
const FOLDED_KEY = "progress:timeline-folded";
const REDRAW_QUERIES = ["(prefers-color-scheme: dark)", "(forced-colors: active)", "(prefers-contrast: more)"];

export class TimelineChart {
  #host;
  #options;
  /** @type {TimelineRun[]} */
  #runs = [];
  /** @type {View} */
  #view = { since: 0, until: 1 };
  /** @type {Layout} */
  #layout = layOutRows([], createGeometry(1));
  /** @type {Set<string>} */
  #folded = new Set();
  /** @type {import("./timeline_palette.js").Palette | null} */
  #palette = null;
  /** @type {Map<string, HTMLElement>} */
  #labels = new Map();
  #coverage = { top: 0, bottom: -1 };
  #width = 0;
  #scale = 1;
  #zoom = 1;
  #frame = 0;
  #needsLayout = true;
  #isPrinting = false;
  #isNarrow = false;

  /** @param {HTMLElement} host @param {ChartOptions} options */
  constructor(host, options) {
    this.#host = host;
    this.#options = options;
    this.axis = createElement("canvas");
    this.canvas = createElement("canvas");
    this.plot = createElement("div", { class: "timeline-plot" }, this.canvas);
    this.labels = createElement("div", { class: "timeline-labels" });
    this.body = createElement("div", { class: "timeline-body" }, this.plot, this.labels);
    host.append(createElement("div", { class: "timeline-axis", "aria-hidden": "true" }, this.axis), this.body);
    try {
      this.#folded = new Set(JSON.parse(options.storage?.getItem(FOLDED_KEY) ?? "[]"));
    } catch {
      // The groups are unfolded.
    }
    this.cursor = new RunCursor(this);
    this.#resize();
    new ResizeObserver(() => this.#resize()).observe(host);
    addEventListener("scroll", () => this.#isCovered() || this.invalidate(), { passive: true });
    addEventListener("resize", () => this.#resize());
    for (const query of REDRAW_QUERIES) matchMedia(query).addEventListener("change", () => this.#resize());
    addEventListener("beforeprint", () => this.#print(true));
    addEventListener("afterprint", () => this.#print(false));
  }

  get layout() {
    return this.#layout;
  }

  /** The pixels between the axis and the end of the window. */
  get room() {
    return innerHeight - this.body.getBoundingClientRect().top;
  }

  get view() {
    return this.#view;
  }

  /** The sizes without zoom. */
  get geometry() {
    return createGeometry(this.#scale / this.#zoom, this.#isNarrow);
  }

  get width() {
    return this.#width;
  }

  get scale() {
    return this.#scale;
  }

  get now() {
    return this.#options.now();
  }

  /** @param {TimelineRun[]} runs */
  setRuns(runs) {
    this.#runs = runs;
    this.#needsLayout = true;
    this.invalidate();
  }

  /** Makes the lanes larger than usual. @param {number} zoom */
  setZoom(zoom) {
    if (Math.abs(zoom - this.#zoom) < 0.01) return;
    this.#zoom = zoom;
    this.#host.style.setProperty("--zoom", String(zoom));
    this.#resize();
  }

  /** @param {View} view */
  setView(view) {
    this.#view = view;
    this.invalidate();
  }

  /** Sets the interval that the viewer has chosen with the pointer or the keyboard. @param {View} view */
  changeView(view) {
    this.setView(view);
    this.#options.onViewChange(view);
  }

  /** Returns the address of the page of a run, or null. @param {TimelineRun} run */
  urlOf({ id, runId }) {
    const { root } = this.#options;
    if (root === null) return null;
    const url = itemUrl(id);
    return root + url + (runId === "" ? "" : `${url.includes("?") ? "&" : "?"}run=${encodeURIComponent(runId)}`);
  }

  /** Draws in the next frame. */
  invalidate() {
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.draw());
  }

  /** Draws now. */
  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#needsLayout) this.#layOut();
    const now = this.#options.now();
    const ratio = devicePixelRatio;
    const { top, bottom } = this.#chooseCoverage();
    this.#coverage = { top, bottom };
    const context = prepareCanvas(this.canvas, this.#width, bottom - top, ratio);
    this.#palette ??= readPalette(this.#host, context, ratio, this.#isPrinting);
    const ticks = chooseTicks(this.#view, this.#width, 78 * this.#scale);
    const scene = { layout: this.#layout, view: this.#view, width: this.#width, now, ticks, palette: this.#palette, scale: this.#scale };
    drawLanes(context, scene, top, bottom);
    this.canvas.style.transform = `translateY(${top}px)`;
    const axisHeight = Math.round(32 * this.#scale);
    drawAxis(prepareCanvas(this.axis, this.#width, axisHeight, ratio), scene, axisHeight, viewerClock.time(now));
    this.#renderLabels(top, bottom);
    this.cursor.update();
  }

  /** Folds or unfolds a group. @param {string} group */
  toggleGroup(group) {
    if (!this.#folded.delete(group)) this.#folded.add(group);
    try {
      this.#options.storage?.setItem(FOLDED_KEY, JSON.stringify([...this.#folded]));
    } catch {
      // The choice lasts as long as the page.
    }
    this.#needsLayout = true;
    this.draw();
  }

  #layOut() {
    this.#needsLayout = false;
    this.#isNarrow = this.#host.clientWidth < NARROW_PX * Math.min(this.#scale, 1.2);
    this.#host.classList.toggle("is-narrow", this.#isNarrow);
    this.#layout = layOutRows(this.#runs, createGeometry(this.#scale, this.#isNarrow), (group) => this.#folded.has(group), this.#options.withHeadings);
    this.body.style.height = `${this.#layout.height}px`;
    this.#host.classList.toggle("is-empty", this.#layout.rows.length === 0);
    this.#width = this.plot.clientWidth;
  }

  #resize() {
    this.#scale = (this.#zoom * parseFloat(getComputedStyle(document.documentElement).fontSize)) / 16;
    this.#palette = null;
    this.#needsLayout = true;
    this.invalidate();
  }

  /** @param {boolean} isPrinting */
  #print(isPrinting) {
    this.#isPrinting = isPrinting;
    this.#palette = null;
    this.#needsLayout = true;
    this.#host.classList.toggle("is-printed", isPrinting);
    this.draw();
  }

  #visibleHeights() {
    const top = -this.body.getBoundingClientRect().top;
    return { top, bottom: top + innerHeight };
  }

  #isCovered() {
    const { top, bottom } = this.#visibleHeights();
    return Math.max(top, 0) >= this.#coverage.top && Math.min(bottom, this.#layout.height) <= this.#coverage.bottom;
  }

  #chooseCoverage() {
    const { height } = this.#layout;
    if (this.#isPrinting) return { top: 0, bottom: Math.min(height, MAX_PRINTED_PX) };
    const { top, bottom } = this.#visibleHeights();
    const first = Math.min(Math.max(Math.floor(top) - OVERSCAN_PX, 0), height);
    return { top: first, bottom: Math.max(Math.min(Math.ceil(bottom) + OVERSCAN_PX, height), first) };
  }

  /** @param {number} top @param {number} bottom */
  #renderLabels(top, bottom) {
    const shown = new Set();
    const { padding, labelHeight } = this.#layout.geometry;
    const isNarrow = labelHeight > 0;
    for (let at = findRow(this.#layout, top); at < this.#layout.rows.length && this.#layout.rows[at].y < bottom; at++) {
      const row = this.#layout.rows[at];
      shown.add(row.key);
      let node = this.#labels.get(row.key);
      if (node === undefined) {
        node = row.kind === "group" ? this.#createHeading(row) : this.#createLabel(row);
        this.#labels.set(row.key, node);
        this.labels.append(node);
      }
      node.style.transform = `translateY(${row.y}px)`;
      node.style.height = `${row.height}px`;
      node.style.paddingTop = isNarrow || row.kind === "group" ? "" : `${padding}px`;
      if (row.kind === "group") updateHeading(node, row);
      else updateLabel(node, row);
    }
    for (const [key, node] of this.#labels) {
      if (shown.has(key) || node.contains(document.activeElement)) continue;
      node.remove();
      this.#labels.delete(key);
    }
  }

  /** @param {Row} row */
  #createHeading({ group }) {
    const button = createElement(
      "button",
      { type: "button", click: () => this.toggleGroup(group) },
      createElement("span", { class: "fold", "aria-hidden": "true" }),
      createElement("bdi", { class: "name" }),
      createElement("span", { class: "muted" }),
    );
    return createElement("h2", { class: "timeline-heading" }, button);
  }

  /** @param {Row} row */
  #createLabel({ id }) {
    const { root } = this.#options;
    const name = createElement("bdi", { class: "name" });
    const icon = createElement("span", { class: "icon", "aria-hidden": "true" });
    const attributes = { class: "timeline-label", title: id };
    return root === null ? createElement("p", attributes, icon, name) : createElement("a", { ...attributes, href: root + itemUrl(id) }, icon, name);
  }
}

/** @param {HTMLElement} node @param {Row} row */
function updateHeading(node, { title, runs, failedCount, isFolded }) {
  const button = /** @type {HTMLElement} */ (node.firstElementChild);
  const [fold, name, count] = button.children;
  node.classList.toggle("is-folded", isFolded);
  button.setAttribute("aria-expanded", String(!isFolded));
  const text = `${runs.length.toLocaleString()} ${runs.length === 1 ? "run" : "runs"}${failedCount > 0 ? `, ${failedCount} failed` : ""}`;
  for (const [element, content] of /** @type {[Element, string][]} */ ([[fold, isFolded ? "▸" : "▾"], [name, title], [count, text]])) {
    if (element.textContent !== content) element.textContent = content;
  }
}

/** @param {HTMLElement} node @param {Row} row */
function updateLabel(node, { title, runs }) {
  const { state } = runs[runs.length - 1];
  const [icon, name] = node.children;
  const glyph = ICONS[/** @type {keyof typeof ICONS} */ (state)] ?? "!";
  if (name.textContent !== title) name.textContent = title;
  if (icon.textContent !== glyph) icon.textContent = glyph;
  if (icon.className !== `icon ${state}`) icon.className = `icon ${state}`;
}
