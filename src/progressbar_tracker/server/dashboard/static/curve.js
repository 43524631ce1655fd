// The curve of a run over those of former runs, with its predicted finish.

import { Chart, createAxes, createLegendEntry, round } from "./chart.js";
import { createDurationTicks, createNumberTicks, createScale } from "./chart_axes.js";
import { formatClockTime } from "./clock.js";
import { buildCurve, extendCurve, findHeight } from "./curve_layout.js";
import { createSvg } from "./dom.js";
import { formatCount, formatNumber, formatPercent } from "./format.js";
import { formatRoughDuration } from "./phrases.js";

/** @typedef {import("./curve_layout.js").CurveModel} CurveModel */
/** @typedef {import("./curve_layout.js").Point} Point */

const DRAW_INTERVAL = 1000; // milliseconds between two drawings
const MIN_SECONDS = 2; // of a run; before, there is no curve to see
const KEY_STEPS = 40;

/** The figure of a curve. */
export class CurveFigure {
  constructor() {
    /** @type {RunCurve[]} the run, and former ones */
    this.runs = [];
    this.source = this.runs; // as they were fetched
    /** @type {WireItem | null} */
    this.item = null;
    /** @type {CurveModel | null} */
    this.model = null;
    this.now = 0;
    this.drawnAt = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.drawTimer = undefined;
    this.place = { left: 0, right: 1, top: 0, bottom: 1 };
    this.cursor = createSvg("g", { class: "cursor" });
    this.chart = new Chart("curve", "Progress over time", () => this.draw());
    this.figure = this.chart.figure;
    /** @type {number | null} seconds of the cursor */
    this.cursorSeconds = null;
    const { svg } = this.chart;
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("role", "img");
    svg.addEventListener("pointermove", (event) => this.#followPointer(event));
    svg.addEventListener("pointerleave", () => this.#hideCursor());
    svg.addEventListener("blur", () => this.#hideCursor());
    svg.addEventListener("keydown", (event) => this.#followKey(event));
  }

  /**
   * Shows a run over former ones.
   *
   * @param {RunCurve[]} runs the run first
   * @param {WireItem} item the current or last state of the run
   * @param {number} now the server's time in milliseconds
   */
  show(runs, item, now) {
    this.source = this.runs = runs;
    this.item = item;
    this.now = now;
    this.draw();
  }

  /**
   * Adds the latest state of the running item.
   *
   * @param {WireItem} item
   * @param {number} now
   */
  extend(item, now) {
    const [run, ...former] = this.runs;
    if (run === undefined || run.run_id !== item.run_id) return;
    const hasEnded = this.item?.status !== item.status;
    this.runs = [extendCurve(run, item), ...former];
    this.item = item;
    this.now = now;
    const delay = hasEnded ? 0 : Math.max(this.drawnAt + DRAW_INTERVAL - performance.now(), 0);
    this.drawTimer ??= setTimeout(() => this.draw(), delay);
  }

  draw() {
    clearTimeout(this.drawTimer);
    this.drawTimer = undefined;
    this.drawnAt = performance.now();
    const [run, ...former] = this.runs;
    if (run === undefined || this.item === null) return;
    const model = (this.model = buildCurve(run, former, this.item, this.now));
    // Former curves alone say how the run may go.
    const seconds = model.current.at(-1)?.[0] ?? 0;
    this.figure.hidden = (model.current.length < 2 || seconds < MIN_SECONDS) && model.former.length === 0;
    if (this.figure.hidden) return;
    const { chart, item } = this;
    chart.width ||= Math.floor(chart.svg.getBoundingClientRect().width);
    const formatHeight = this.#createFormat(model);
    const heights = createNumberTicks(model.top, 5, model.isShare || item.unit === "B" ? formatHeight : formatNumber);
    const box = chart.measure(heights.map((tick) => tick.text));
    const x = createScale(model.seconds, box.left, box.right);
    const y = createScale(model.top, box.bottom, box.top);
    this.place = box;
    const durations = createDurationTicks(model.seconds, Math.max((box.right - box.left) / (box.em * 6), 1));
    /** @param {Point[]} points @param {string} className */
    const line = (points, className) =>
      createSvg("polyline", {
        class: className, points: points.filter(([at]) => at <= model.seconds).map(([at, height]) => `${round(x(at))},${round(y(height))}`).join(" "),
      });
    const layers = [
      createHatch(),
      createAxes(
        box,
        { ticks: durations, scale: x, title: "time since the start" },
        { ticks: heights, scale: y, title: model.isShare ? "progress" : item.unit || "completed" },
      ),
      ...model.former.map((points) => line(points, "former")),
      line(model.median, "median"),
      ...this.#createFinish(model, x, y, box),
      line(model.current, "current"),
    ];
    const last = model.current.at(-1);
    if (last !== undefined) layers.push(createSvg("circle", { class: "here", cx: round(x(last[0])), cy: round(y(last[1])), r: 4 }));
    this.figure.className = `chart curve ${item.status}`;
    chart.svg.replaceChildren(...layers, this.cursor);
    this.#describe(model, formatHeight);
    if (this.cursorSeconds !== null) this.#showCursor(this.cursorSeconds);
  }

  /**
   * @param {CurveModel} model
   * @param {(value: number) => number} x
   * @param {(value: number) => number} y
   * @param {import("./chart.js").Box} box
   */
  #createFinish({ finish, current }, x, y, box) {
    const last = current.at(-1);
    if (finish === null || last === undefined || this.item === null) return [];
    const [here, there] = [`${round(x(last[0]))},${round(y(last[1]))}`, round(x(finish.at))];
    const top = round(y(finish.level));
    const parts = [];
    if (finish.low !== null && finish.high !== null) {
      const range = `${here} ${round(x(finish.low))},${top} ${round(x(finish.high))},${top}`;
      parts.push(createSvg("polygon", { class: "range", points: range, fill: "url(#curve-hatch)" }));
    }
    const text = formatClockTime(Date.parse(this.item.started_at) + finish.at * 1000, this.now);
    const isLast = there + text.length * box.em * 0.3 > box.width;
    parts.push(
      createSvg("polyline", { class: "predicted", points: `${here} ${there},${top}` }),
      createSvg("line", { class: "deadline", x1: there, x2: there, y1: top, y2: box.bottom }),
      createSvg("text", { class: "finish", x: isLast ? box.width : there, y: top - box.em * 0.5, "text-anchor": isLast ? "end" : "middle" }, text),
    );
    return parts;
  }

  /**
   * @param {CurveModel} model
   * @param {(height: number) => string} formatHeight
   */
  #describe(model, formatHeight) {
    const { chart, item } = this;
    const last = model.current.at(-1);
    const count = model.former.length;
    const runs = `${count} former run${count === 1 ? "" : "s"}`;
    const entries = [createLegendEntry("current", "this run")];
    if (count > 0) entries.push(createLegendEntry("former", runs));
    if (model.median.length > 0) entries.push(createLegendEntry("median", "their median"));
    if (model.finish !== null) entries.push(createLegendEntry("predicted", model.finish.high === null ? "predicted finish" : "predicted finish and range"));
    chart.legend.replaceChildren(...entries);
    let text = last === undefined ? "" : `${formatHeight(last[1])} after ${formatRoughDuration(last[0])}.`;
    const usual = last === undefined || item?.status !== "running" ? null : findHeight(model.median, last[0]);
    if (usual !== null) text += ` By then, the median of ${runs} was at ${formatHeight(usual)}.`;
    chart.summary.textContent = text;
    chart.svg.setAttribute("aria-label", `Progress over time. ${text}`);
  }

  /** @param {CurveModel} model */
  #createFormat({ isShare, unit }) {
    /** @param {number} height */
    const format = (height) => (isShare ? formatPercent(height) : formatCount({ completed: Math.round(height * 100) / 100, total: null, unit }));
    return format;
  }

  /** @param {PointerEvent} event */
  #followPointer(event) {
    if (this.model === null) return;
    const { left, right } = this.place;
    const x = event.clientX - this.chart.svg.getBoundingClientRect().left;
    this.#showCursor(Math.min(Math.max((x - left) / (right - left), 0), 1) * this.model.seconds);
  }

  /** @param {KeyboardEvent} event */
  #followKey(event) {
    const direction = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") return this.#hideCursor();
    if (direction === undefined || this.model === null) return;
    event.preventDefault();
    const { seconds, current } = this.model;
    const from = this.cursorSeconds ?? current.at(-1)?.[0] ?? 0;
    this.#showCursor(Math.min(Math.max(from + (direction * seconds) / KEY_STEPS, 0), seconds));
  }

  /** @param {number} seconds */
  #showCursor(seconds) {
    const { model, place } = this;
    if (model === null) return;
    this.cursorSeconds = seconds;
    const format = this.#createFormat(model);
    const x = round(createScale(model.seconds, place.left, place.right)(seconds));
    const y = createScale(model.top, place.bottom, place.top);
    const own = findHeight(model.current, seconds);
    const usual = findHeight(model.median, seconds);
    const texts = [`after ${formatRoughDuration(seconds)}:`];
    if (own !== null) texts.push(`${format(own)}${usual === null ? "" : ","}`);
    if (usual !== null) texts.push(`median ${format(usual)}`);
    const heights = [own, usual].filter((height) => height !== null);
    this.cursor.replaceChildren(
      createSvg("line", { x1: x, x2: x, y1: place.top, y2: place.bottom }),
      ...heights.map((height) => createSvg("circle", { cx: x, cy: round(y(height)), r: 3 })),
    );
    if (heights.length === 0) this.chart.hideTip();
    else this.chart.showTip(texts.join(" "), x, Math.min(...heights.map(y)));
  }

  #hideCursor() {
    this.cursorSeconds = null;
    this.cursor.replaceChildren();
    this.chart.hideTip();
  }
}

function createHatch() {
  const line = createSvg("line", { x1: 0, x2: 0, y1: 0, y2: 6, class: "hatch" });
  const pattern = createSvg(
    "pattern",
    { id: "curve-hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    line,
  );
  return createSvg("defs", {}, pattern);
}
