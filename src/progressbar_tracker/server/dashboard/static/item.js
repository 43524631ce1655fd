// The page of an item, and of one of its runs. It is live while that run is on the board.

import { renderBar, updateBarTimes } from "./bar.js";
import { loadFollowed } from "./bell.js";
import { ServerClock } from "./clock.js";
import { createTime } from "./dates.js";
import { createElement, requireElement } from "./dom.js";
import { ICONS, formatItemPercent, titleOf } from "./format.js";
import { createLayout } from "./item_layout.js";
import { createNextStart } from "./next_start.js";
import { formatSuccessRate, formatUsualRange, formatUsualStart } from "./phrases.js";
import { fetchChildren, fetchParts, fetchRunData, findNeighbours, searchNeighbours } from "./run_data.js";
import { createRunTable } from "./run_table.js";
import { subscribe } from "./stream.js";
import { mergeRuns } from "./trend_layout.js";
import { ResponseError, runPageUrl } from "./urls.js";

const RELOAD_DELAY = 300; // milliseconds; a run that ends and leaves the board is fetched once
const MIN_RELOAD_INTERVAL = 10000; // milliseconds between two loads for snapshots
const CHILDREN_DELAY = 1000; // milliseconds from the end of a child to the next list of them
const PARTS_INTERVAL = 5000; // milliseconds between two requests for the counts of the parts
const TREND_INTERVAL = 30000; // milliseconds between two drawings of the running run in the trend

/** @typedef {import("./run_data.js").RunData} RunData */

class ItemPage {
  /**
   * @param {HTMLElement} container
   * @param {string} id
   * @param {string | null} runId the run of a run page
   */
  constructor(container, id, runId) {
    this.container = container;
    this.id = id;
    this.runId = runId;
    this.layout = createLayout(container, id, runId);
    this.clock = new ServerClock(); // stops while the connection is lost
    /** @type {WireItem | null} */
    this.boardItem = null;
    /** @type {boolean} whether the board is known */
    this.hasBoard = false;
    /** @type {RunData | null} */
    this.data = null;
    /** @type {WireItem | null} the state that is shown */
    this.shown = null;
    this.request = new AbortController();
    this.childrenRequest = new AbortController();
    /** @type {string | null} the run whose children are known */
    this.childrenRun = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.childrenTimer = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.reloadTimer = undefined;
    this.loadedAt = 0;
    this.trendKey = "";
    this.partsAt = 0;
  }

  /** The item on the board, if it is in the run of this page. */
  get liveItem() {
    return this.boardItem !== null && (this.runId === null || this.boardItem.run_id === this.runId) ? this.boardItem : null;
  }

  /** The run that the page shows; `null` while it is unknown. */
  get shownRun() {
    if (this.liveItem !== null) return this.liveItem;
    const run = this.data?.run ?? null;
    // Until the board is known, the last ended run is the last one only if the curve is its own.
    return this.hasBoard || this.runId !== null || this.data?.curves[0]?.run_id === run?.run_id ? run : null;
  }

  /** @param {StreamMessage} message */
  handleMessage(message) {
    const offline = requireElement("offline");
    if (message.type === "offline") {
      offline.hidden = false;
      this.clock.stop(/** @type {any} */ (message.time));
    } else if (message.type === "online") offline.hidden = true;
    else if (message.type === "signed-out") location.reload();
    else if ("time" in message) this.clock.set(message.time);
    if (message.type === "snapshot" || message.type === "change") this.#applyItems(message);
  }

  /** @param {Extract<StreamMessage, { items: WireItem[] }>} message */
  #applyItems(message) {
    const before = this.boardItem;
    const { live } = this.layout.children;
    const isSnapshot = message.type === "snapshot";
    if (isSnapshot) {
      if (this.hasBoard) this.#reloadMissed();
      this.boardItem = null;
      live.clear();
    } else {
      for (const id of message.gone) live.delete(id);
      if (message.gone.includes(this.id)) this.boardItem = null;
    }
    const childCount = live.size;
    for (const item of message.items) {
      if (item.id === this.id) this.boardItem = item;
      if (item.parent === this.id) live.set(item.id, item);
      else live.delete(item.id);
    }
    this.hasBoard = true;
    const isAnotherRun = before?.run_id !== this.boardItem?.run_id || before?.status !== this.boardItem?.status;
    const ended = isSnapshot ? [] : message.ended;
    if ((isAnotherRun && before !== null) || ended.some((run) => run.id === this.id)) this.#reloadSoon();
    if (live.size < childCount || ended.some((run) => run.parent === this.id)) this.#reloadChildrenSoon();
    // Most messages are about other items.
    const isTouched = this.boardItem !== before || isSnapshot || live.size !== childCount || message.items.some((item) => item.parent === this.id);
    if (isTouched || ended.length > 0) this.refresh();
  }

  #reloadSoon() {
    clearTimeout(this.reloadTimer);
    this.reloadTimer = setTimeout(() => this.load(), RELOAD_DELAY);
  }

  // Runs may have begun and ended while there was no stream. Without one, each list that is polled is a snapshot.
  #reloadMissed() {
    this.reloadTimer ??= setTimeout(() => void this.reload(), Math.max(this.loadedAt + MIN_RELOAD_INTERVAL - performance.now(), 0));
  }

  #reloadChildrenSoon() {
    // At a steady pace if a child ends every second.
    this.childrenTimer ??= setTimeout(() => void this.#loadChildren(), CHILDREN_DELAY);
  }

  /** Fetches the inner bars that have left the board. */
  async #loadChildren() {
    clearTimeout(this.childrenTimer);
    this.childrenTimer = undefined;
    const run = this.shownRun;
    if (run === null) return;
    if (run.run_id !== this.childrenRun) this.layout.children.ended = [];
    this.childrenRun = run.run_id;
    this.childrenRequest.abort();
    const { signal } = (this.childrenRequest = new AbortController());
    try {
      const { children, hasMore } = await fetchChildren(run, signal);
      this.layout.children.ended = children;
      this.layout.children.hasMore = hasMore;
      this.layout.children.show(this.shownRun ?? run, this.clock.now());
    } catch (error) {
      if (!signal.aborted) this.#showProblem(error);
    }
  }

  /** Fetches the curve, the statistics and the runs. */
  async load() {
    clearTimeout(this.reloadTimer);
    this.reloadTimer = undefined;
    this.loadedAt = performance.now();
    this.request.abort();
    const { signal } = (this.request = new AbortController());
    try {
      this.data = await fetchRunData(this.id, this.runId, signal);
      this.trendKey = "";
      this.layout.problem.hidden = true;
      this.#showData();
      this.refresh();
      if (this.runId !== null) await this.#showNavigation(this.runId, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#showProblem(error);
    }
    this.container.setAttribute("aria-busy", "false");
  }

  /** Fetches everything again. */
  async reload() {
    await Promise.all([this.load(), this.#loadChildren()]);
  }

  /** @param {unknown} error */
  #showProblem(error) {
    const { problem } = this.layout;
    const text = error instanceof ResponseError ? error.message : "The server cannot be reached.";
    const button = createElement("button", { type: "button", class: "secondary", click: () => void this.reload() }, "Try again");
    problem.replaceChildren(`The former runs cannot be shown: ${text} `, button);
    problem.hidden = false;
  }

  /** Shows the current state. */
  refresh() {
    const item = this.shownRun;
    if (item === null) return;
    if (item.run_id !== this.childrenRun) void this.#loadChildren();
    const { layout } = this;
    const now = this.clock.now();
    this.shown = item;
    const announcement = renderBar(layout.bar, item, now);
    if (announcement !== "") requireElement("announcement").textContent = announcement;
    const percent = item.status === "running" ? formatItemPercent(item) : "";
    document.title = `${percent === "" ? "" : `${percent} - `}${titleOf(item)}${this.runId === null ? "" : `, run ${this.runId}`}`;
    layout.goneNotice.hidden = !this.hasBoard || this.boardItem !== null || this.runId !== null;
    layout.stop.show(this.liveItem);
    layout.bell?.show({ item: this.id, run_id: item.run_id }, titleOf(item), this.runId !== null);
    layout.facts.show(item, now);
    layout.children.show(item, now);
    layout.tail.show(item);
    this.#drawCurve(item, now);
    this.#drawTrend(now);
  }

  /** @param {number} now */
  #drawTrend(now) {
    if (this.data === null) return;
    const { boardItem } = this;
    const key = `${boardItem?.run_id} ${boardItem?.status} ${Math.floor(now / TREND_INTERVAL)}`;
    if (key === this.trendKey) return;
    this.trendKey = key;
    const shownRun = this.runId ?? boardItem?.run_id ?? this.data.run?.run_id ?? null;
    this.layout.trend.show(this.data.statistics, boardItem, now, shownRun);
  }

  /**
   * @param {WireItem} item
   * @param {number} now
   */
  #drawCurve(item, now) {
    const [run] = this.data?.curves ?? [];
    if (run === undefined || run.run_id !== item.run_id) return;
    const { curve } = this.layout;
    if (curve.source !== this.data?.curves) curve.show(this.data?.curves ?? [], item, now);
    curve.extend(item, now);
  }

  /**
   * Fetches the counts of the parts, which the stream does not have.
   *
   * @param {WireItem} run
   */
  async #loadParts(run) {
    this.partsAt = this.clock.now();
    try {
      const parts = await fetchParts(run);
      if (this.shown?.run_id === run.run_id) this.layout.parts.show(parts, run.unit);
    } catch {
      // The next interval tries again; the stream reports a lost connection.
    }
  }

  #showData() {
    if (this.data === null) return;
    const { curves, parts, statistics, runs } = this.data;
    this.partsAt = this.clock.now();
    this.layout.parts.show(parts, curves[0]?.unit ?? "");
    const { layout } = this;
    const now = this.clock.now();
    const habits = [formatUsualRange(statistics), formatSuccessRate(statistics), formatUsualStart(statistics, now)].filter((text) => text !== "");
    layout.habits.hidden = habits.length === 0;
    layout.habits.replaceChildren(...habits.map((text) => createElement("li", {}, text)));
    layout.allRuns.hidden = runs.length === 0;
    const table = createRunTable("Ended runs of this item, newest first", runs, { hasItems: false });
    layout.runs.replaceChildren(runs.length > 0 ? table : createElement("p", { class: "muted" }, "No run of this item has left the board yet."));
  }

  /**
   * @param {string} runId
   * @param {AbortSignal} signal
   */
  async #showNavigation(runId, signal) {
    const known = mergeRuns(this.data?.statistics.runs ?? [], this.boardItem, this.clock.now()).reverse();
    let neighbours = findNeighbours(known.map((run) => run.run_id), runId);
    if (neighbours === null || (neighbours.previous === null && known.length >= 100)) neighbours = await searchNeighbours(this.id, runId, signal);
    const { previous, next } = neighbours;
    const link = (/** @type {string} */ text, /** @type {string | null} */ target, /** @type {string} */ rel) => {
      if (target === null) return createElement("span", { class: "muted" }, text);
      const run = known.find((candidate) => candidate.run_id === target);
      const state = run === undefined ? [] : [" ", createElement("span", { class: `icon ${run.status}`, title: run.status }, ICONS[/** @type {keyof typeof ICONS} */ (run.status)]), createTime(run.started_at)];
      return createElement("a", { href: runPageUrl(this.id, target), rel }, text, ...state);
    };
    const name = createElement("span", { class: "run-name" }, "Run ", createElement("code", {}, runId));
    this.layout.navigation.replaceChildren(link("← Previous run", previous, "prev"), name, link("Next run →", next, "next"));
  }

  /** Updates the texts that depend on the time. */
  tick() {
    if (this.clock.isStopped || this.shown === null || this.shown.status !== "running") return;
    this.layout.tail.tick();
    const now = this.clock.now();
    if (this.layout.parts.count > 0 && now - this.partsAt >= PARTS_INTERVAL && !document.hidden) void this.#loadParts(this.shown);
    updateBarTimes(this.layout.bar, now);
    this.layout.facts.updateAges(now);
  }
}

const container = requireElement("item");
const page = new ItemPage(container, container.dataset.id ?? "", container.dataset.run ?? null);
void page.load();
void loadFollowed();
const nextStart = createNextStart();
subscribe((message) => {
  page.handleMessage(message);
  nextStart?.handleMessage(message);
});
setInterval(() => page.tick(), 1000);
