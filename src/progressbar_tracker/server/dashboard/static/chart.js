// The frame of a chart: a drawing that is as wide as its figure, with axes, and a tip at the pointer or the focus.

import { createElement, createSvg } from "./dom.js";

/** @typedef {import("./chart_axes.js").Tick} Tick */
/** @typedef {{ left: number, right: number, top: number, bottom: number, width: number, height: number, em: number }} Box */

/** A figure with a drawing. */
export class Chart {
  /**
   * @param {string} name a class, and the prefix of its parts
   * @param {string} title
   * @param {(chart: Chart) => void} draw called when the size changes
   */
  constructor(name, title, draw) {
    this.svg = createSvg("svg", { class: "chart-drawing" });
    this.legend = createElement("p", { class: "legend" });
    this.summary = createElement("p", { class: "chart-summary" });
    this.tip = createElement("p", { class: "chart-tip", hidden: true });
    this.figure = createElement(
      "figure",
      { class: `chart ${name}`, hidden: true },
      createElement("figcaption", {}, createElement("h2", {}, title), this.legend, this.summary),
      createElement("div", { class: "chart-frame" }, this.svg, this.tip),
    );
    this.width = 0;
    new ResizeObserver(() => {
      const width = Math.floor(this.svg.getBoundingClientRect().width);
      if (width === this.width || width === 0) return;
      this.width = width;
      draw(this);
    }).observe(this.figure);
  }

  /**
   * Returns the box of the plot, inside of the labels of the axes.
   *
   * @param {string[]} labels those of the vertical axis
   * @returns {Box}
   */
  measure(labels) {
    const style = getComputedStyle(this.svg);
    const em = parseFloat(style.fontSize) || 14;
    const width = this.width || 600;
    const height = parseFloat(style.height) || 200;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const left = Math.ceil(Math.max(...labels.map((label) => label.length), 3) * em * 0.58 + em * 0.6);
    return { left, right: width - em * 0.6, top: em * 2, bottom: height - em * 2.2, width, height, em };
  }

  /**
   * Shows the tip at a place of the drawing.
   *
   * @param {string} text
   * @param {number} x
   * @param {number} y
   */
  showTip(text, x, y) {
    const { tip } = this;
    tip.textContent = text;
    tip.hidden = false;
    const left = Math.min(Math.max(x - tip.offsetWidth / 2, 0), this.width - tip.offsetWidth);
    tip.style.left = `${Math.round(left)}px`;
    tip.style.top = `${Math.round(y - tip.offsetHeight - 10 > -30 ? y - tip.offsetHeight - 10 : y + 14)}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }
}

/**
 * Creates the axes of a chart.
 *
 * @param {Box} box
 * @param {{ ticks: Tick[], scale: (value: number) => number, title: string }} horizontal
 * @param {{ ticks: Tick[], scale: (value: number) => number, title: string }} vertical
 */
export function createAxes(box, horizontal, vertical) {
  const { em } = box;
  const axes = createSvg("g", { class: "axes" });
  for (const { value, text } of vertical.ticks) {
    const y = round(vertical.scale(value));
    axes.append(
      createSvg("line", { x1: box.left, x2: box.right, y1: y, y2: y, class: value === 0 ? "base" : "grid" }),
      createSvg("text", { x: box.left - em * 0.5, y: y + em * 0.35, "text-anchor": "end" }, text),
    );
  }
  for (const { value, text } of horizontal.ticks) {
    const x = round(horizontal.scale(value));
    // A label at an edge stays inside of the drawing.
    const half = text.length * em * 0.3;
    const [place, anchor] = x + half > box.width ? [box.width, "end"] : x - half < 0 ? [0, "start"] : [x, "middle"];
    axes.append(
      createSvg("line", { x1: x, x2: x, y1: box.bottom, y2: box.bottom + em * 0.3, class: "base" }),
      createSvg("text", { x: place, y: box.bottom + em * 1.25, "text-anchor": anchor }, text),
    );
  }
  axes.append(
    createSvg("text", { x: box.left - em * 0.5, y: em * 0.9, class: "axis-title" }, vertical.title),
    createSvg("text", { x: box.right, y: box.bottom - em * 0.5, "text-anchor": "end", class: "axis-title" }, horizontal.title),
  );
  return axes;
}

/**
 * Creates an entry of a legend: a sample and its name.
 *
 * @param {string} sample the class of the sample
 * @param {string} name
 */
export function createLegendEntry(sample, name) {
  const line = createSvg("line", { x1: 1, x2: 23, y1: 6, y2: 6, class: sample });
  return createElement(
    "span",
    {},
    createSvg("svg", { viewBox: "0 0 24 12", width: 24, height: 12, "aria-hidden": "true" }, line),
    ` ${name}`,
  );
}

/** @param {number} pixels */
export function round(pixels) {
  return Math.round(pixels * 10) / 10;
}
