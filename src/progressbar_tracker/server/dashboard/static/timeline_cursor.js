// The pointer and the keyboard on a timeline. Links lie over the runs under the pointer and in focus, so that opening,
// "open in a new tab" and screen readers work as on every page.

import { createElement } from "./dom.js";
import { findNearest, findNeighbour, findRunAt, locateRun } from "./timeline.js";
import { describeRun, formatRun } from "./timeline_texts.js";
import { panView, zoomView } from "./timeline_view.js";

/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */
/** @typedef {import("./timeline_chart.js").TimelineChart} TimelineChart */

const DRAG_START_PX = 5;
const MIN_LINK_PX = 12;
const TOUCH_TOLERANCE_PX = 12;
const WHEEL_ZOOM = 0.002;
const DETAILS_GAP_PX = 8;

/** @type {Record<string, "previous" | "next" | "up" | "down" | "first" | "last">} */
const DIRECTIONS = { ArrowLeft: "previous", ArrowRight: "next", ArrowUp: "up", ArrowDown: "down", Home: "first", End: "last" };

export class RunCursor {
  #chart;
  /** @type {{ run: TimelineRun, count: number } | null} */
  #hovered = null;
  /** @type {TimelineRun | null} */
  #focused = null;
  /** @type {{ x: number, view: import("./timeline.js").View, isMoved: boolean } | null} */
  #drag = null;
  /** @type {import("./timeline.js").Layout | null} of the last update */
  #layout = null;
  #isDismissed = false;
  #isFirstTouch = false; // whether the last touch has shown the details
  #shownDetails = "";

  /** @param {TimelineChart} chart */
  constructor(chart) {
    this.#chart = chart;
    const create = (/** @type {string} */ kind) => createElement("a", { class: `timeline-run ${kind}`, draggable: "false", hidden: true });
    this.hoverLink = create("is-hovered");
    this.hoverLink.tabIndex = -1;
    // Two links take turns: a screen reader announces a link that gets the focus, and not one that changes.
    this.focusLinks = [create("is-focused"), create("is-focused")];
    this.details = createElement("div", { class: "timeline-details", role: "tooltip", hidden: true });
    const { plot } = chart;
    plot.append(...this.focusLinks, this.hoverLink, this.details);
    plot.addEventListener("pointermove", (event) => this.#move(event));
    plot.addEventListener("pointerdown", (event) => this.#press(event));
    plot.addEventListener("pointerup", () => plot.classList.remove("is-dragged"));
    plot.addEventListener("pointercancel", () => this.#endDrag());
    // A finger leaves after each touch: the first one shows the details, and the second one opens the run.
    plot.addEventListener("pointerleave", (event) => event.pointerType === "touch" || this.#hover(null));
    document.addEventListener("pointerdown", ({ target }) => plot.contains(/** @type {Node} */ (target)) || this.#hover(null));
    plot.addEventListener("click", (event) => this.#click(event), { capture: true });
    plot.addEventListener("keydown", (event) => this.#pressKey(event));
    plot.addEventListener("focusin", () => this.#showDetails());
    plot.addEventListener("focusout", () => this.#showDetails());
    chart.body.addEventListener("wheel", (event) => this.#turnWheel(event), { passive: false });
  }

  /** Places the links and the details after the timeline has been drawn. */
  update() {
    const { layout } = this.#chart;
    if (layout !== this.#layout || this.#focused === null) {
      this.#layout = layout;
      this.#focused = (this.#focused === null ? null : this.#findAgain(this.#focused)) ?? this.#chooseFirst();
    }
    const link = this.focusLinks.find((candidate) => candidate === document.activeElement) ?? this.focusLinks[0];
    for (const other of this.focusLinks) if (other !== link) hide(other);
    this.#place(link, this.#focused, 1);
    if (this.#hovered !== null && !layout.rowOf.has(this.#hovered.run.key)) this.#hovered = null;
    this.#place(this.hoverLink, this.#hovered?.run ?? null, this.#hovered?.count ?? 0);
    this.#showDetails();
  }

  #isFocusShown() {
    const active = document.activeElement;
    return active !== null && this.focusLinks.some((link) => link === active && link.matches(":focus-visible"));
  }

  // The run that began last.
  #chooseFirst() {
    const { layout, view } = this.#chart;
    const rows = layout.rows.filter(({ kind, tracks }) => kind === "lane" || tracks.length > 0);
    const runs = rows.flatMap((row) => row.runs).filter((run) => run.start < view.until && (run.end ?? Infinity) > view.since);
    return runs.length === 0 ? null : findNearest(runs, this.#chart.now);
  }

  /** @param {TimelineRun} run */
  #findAgain(run) {
    return this.#chart.layout.rowOf.get(run.key)?.runs.find(({ key }) => key === run.key) ?? null;
  }

  /** @param {HTMLAnchorElement} link @param {TimelineRun | null} run @param {number} count */
  #place(link, run, count) {
    const { layout, view, width, now } = this.#chart;
    const place = run === null ? null : locateRun(layout, run);
    if (run === null || place === null) return hide(link);
    const scale = width / (view.until - view.since);
    const left = Math.max((run.start - view.since) * scale, 0);
    const right = Math.min(((run.end ?? now) - view.since) * scale, width);
    if ((right < 0 || left > width) && link === this.hoverLink) return hide(link);
    const length = Math.max(right - left, MIN_LINK_PX);
    link.hidden = false;
    link.style.width = `${length}px`;
    link.style.height = `${layout.geometry.barHeight}px`;
    const x = Math.min(Math.max((left + right - length) / 2, 0), width - length);
    link.style.transform = `translate(${x}px, ${place.y}px)`;
    const url = this.#chart.urlOf(run);
    if (url === null) link.setAttribute("role", "img");
    else if (link.getAttribute("href") !== url) link.href = url;
    if (link !== this.hoverLink) link.tabIndex = 0;
    const label = formatRun(run, now) + (count > 1 ? `, and ${count - 1} more` : "");
    if (link.getAttribute("aria-label") !== label) link.setAttribute("aria-label", label);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const drag = this.#drag;
    if (drag !== null && event.buttons === 0) this.#endDrag();
    if (this.#drag !== null) {
      const dx = event.clientX - this.#drag.x;
      if (!this.#drag.isMoved && Math.abs(dx) < DRAG_START_PX) return;
      if (!this.#drag.isMoved) this.#chart.plot.setPointerCapture(event.pointerId);
      this.#drag.isMoved = true;
      this.#chart.plot.classList.add("is-dragged");
      this.#hover(null);
      const { since, until } = this.#drag.view;
      return this.#chart.changeView(panView(this.#drag.view, (-dx * (until - since)) / this.#chart.width));
    }
    this.#hover(this.#findAt(event, event.pointerType === "touch" ? TOUCH_TOLERANCE_PX : undefined));
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (event.button !== 0) return;
    this.#drag = { x: event.clientX, view: this.#chart.view, isMoved: false };
    this.#isFirstTouch = false;
    if (event.pointerType !== "touch") return;
    const touched = this.#findAt(event, TOUCH_TOLERANCE_PX);
    this.#isFirstTouch = touched?.run !== this.#hovered?.run;
    this.#hover(touched);
  }

  #endDrag() {
    this.#drag = null;
    this.#chart.plot.classList.remove("is-dragged");
  }

  // A drag ends with a click, which must not open the run below. Nor must the touch that shows the details.
  /** @param {MouseEvent} event */
  #click(event) {
    const isMoved = this.#drag?.isMoved === true;
    this.#endDrag();
    if (isMoved || this.#isFirstTouch) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  /** @param {PointerEvent} event @param {number} [tolerance] */
  #findAt(event, tolerance) {
    const { layout, view, width, now, plot } = this.#chart;
    const box = plot.getBoundingClientRect();
    return findRunAt(layout, view, width, now, event.clientX - box.left, event.clientY - box.top, tolerance);
  }

  /** @param {{ run: TimelineRun, count: number } | null} hovered */
  #hover(hovered) {
    if (hovered?.run === this.#hovered?.run) return;
    this.#hovered = hovered;
    this.#isDismissed = false;
    this.#place(this.hoverLink, hovered?.run ?? null, hovered?.count ?? 0);
    this.#showDetails();
  }

  /** @param {KeyboardEvent} event */
  #pressKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { view } = this.#chart;
    const span = view.until - view.since;
    const at = this.#focused === null ? this.#chart.now : Math.min(Math.max(this.#focused.start, view.since), view.until);
    if (event.key === "+" || event.key === "=") this.#chart.changeView(zoomView(view, 0.5, at));
    else if (event.key === "-") this.#chart.changeView(zoomView(view, 2, at));
    else if (event.shiftKey && event.key === "ArrowLeft") this.#chart.changeView(panView(view, -span / 8));
    else if (event.shiftKey && event.key === "ArrowRight") this.#chart.changeView(panView(view, span / 8));
    else if (event.key === "Escape" && !this.details.hidden) this.#isDismissed = true;
    else if (event.key in DIRECTIONS && this.#focused !== null) this.#focusRun(findNeighbour(this.#chart.layout, this.#focused, DIRECTIONS[event.key]));
    else return;
    event.preventDefault();
    this.#showDetails();
  }

  /** Moves the focus to a run. @param {TimelineRun} run */
  #focusRun(run) {
    if (run === this.#focused) return;
    const former = this.focusLinks.find((link) => link === document.activeElement) ?? this.focusLinks[1];
    const next = this.focusLinks.find((link) => link !== former) ?? this.focusLinks[0];
    this.#focused = run;
    this.#isDismissed = false;
    this.#place(next, run, 1);
    next.focus({ preventScroll: true });
    hide(former);
    next.scrollIntoView({ block: "nearest" });
    this.#reveal(run);
    this.#showDetails();
  }

  // Moves the view to a run outside of it.
  /** @param {TimelineRun} run */
  #reveal(run) {
    const { view, now } = this.#chart;
    const span = view.until - view.since;
    const end = run.end ?? now;
    if (end < view.since || run.start > view.until) this.#chart.changeView({ since: run.start - span / 4, until: run.start + (span * 3) / 4 });
  }

  /** @param {WheelEvent} event */
  #turnWheel(event) {
    const { view, width, plot } = this.#chart;
    const span = view.until - view.since;
    const size = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const isSideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    if (event.ctrlKey || event.metaKey) {
      const at = view.since + ((event.clientX - plot.getBoundingClientRect().left) / width) * span;
      this.#chart.changeView(zoomView(view, Math.exp(Math.min(Math.max(event.deltaY * size * WHEEL_ZOOM, -0.5), 0.5)), at));
    } else if (isSideways) this.#chart.changeView(panView(view, ((event.deltaX || event.deltaY) * size * span) / width));
    else return;
    event.preventDefault();
  }

  #showDetails() {
    const hovered = this.#hovered;
    const run = hovered?.run ?? (this.#isFocusShown() ? this.#focused : null);
    const link = hovered === null ? this.focusLinks.find((candidate) => candidate === document.activeElement) : this.hoverLink;
    this.details.hidden = run === null || this.#isDismissed || link === undefined || link.hidden;
    if (this.details.hidden || run === null || link === undefined) return;
    const { title, icon, status, times, notes, error } = describeRun(run, this.#chart.now);
    const others = hovered !== null && hovered.count > 1 ? `and ${hovered.count - 1} more here: zoom in to see them` : "";
    const content = JSON.stringify([title, status, times, notes, error, others]);
    if (content !== this.#shownDetails) {
      this.#shownDetails = content;
      /** @type {[string, string][]} */
      const lines = [[`state ${run.state}`, `${icon} ${status}`], ["", times], ...notes.map((note) => /** @type {[string, string]} */ (["", note]))];
      lines.push(["details-error", error], ["muted", others]);
      this.details.replaceChildren(
        createElement("strong", {}, createElement("bdi", {}, title)),
        ...lines.filter(([, text]) => text !== "").map(([name, text]) => createElement("p", { class: name }, text)),
      );
    }
    const box = this.#chart.plot.getBoundingClientRect();
    const bar = link.getBoundingClientRect();
    const { offsetWidth, offsetHeight } = this.details;
    const isBelow = bar.bottom + DETAILS_GAP_PX + offsetHeight < innerHeight;
    const y = isBelow ? bar.bottom + DETAILS_GAP_PX : bar.top - DETAILS_GAP_PX - offsetHeight;
    const x = Math.min(Math.max(bar.left + Math.min(bar.width, 40) / 2 - 24, box.left), box.right - offsetWidth);
    this.details.style.transform = `translate(${Math.max(x, 8) - box.left}px, ${y - box.top}px)`;
  }
}

/** @param {HTMLElement} link */
function hide(link) {
  link.hidden = true;
  link.tabIndex = -1;
}
