// Draws the lanes and the axis of a timeline. Only the rows of the given interval of heights are drawn.

import { ICONS, formatDuration } from "./format.js";
import { findRow, placeRuns, severityOf } from "./timeline.js";
import { drawCondition, drawEstimate } from "./timeline_marks.js";

/** @typedef {import("./timeline.js").Layout} Layout */
/** @typedef {import("./timeline.js").View} View */
/** @typedef {import("./timeline.js").Rectangle} Rectangle */
/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */
/** @typedef {import("./timeline_palette.js").Palette} Palette */
/** @typedef {import("./timeline_view.js").Tick} Tick */

/** @typedef {{ layout: Layout, view: View, width: number, now: number, ticks: Tick[], palette: Palette, scale: number }} Scene */

const ICON_WIDTH_PX = 18; // of a bar that has room for an icon
const LABEL_WIDTH_PX = 84; // of a bar that has room for its duration
const RADIUS_PX = 4;
const MIN_ROUND_PX = 7; // of a bar with round corners and a pattern
const FAILURE_MARK_PX = 3;
const STRIP_ALPHA = 0.5;
const MARK_WIDTH_PX = 3;

/**
 * Sets the size of a canvas in pixels of the page; returns its context, which is cleared and scaled.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {number} ratio device pixels per pixel
 * @returns {CanvasRenderingContext2D}
 */
export function prepareCanvas(canvas, width, height, ratio) {
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const [columns, lines] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== lines) {
    canvas.width = columns;
    canvas.height = lines;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  } else context.clearRect(0, 0, width * 2, height * 2);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/**
 * Draws the rows between two heights of the layout; the first height is at the top of the canvas.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {number} top
 * @param {number} bottom
 */
export function drawLanes(context, scene, top, bottom) {
  const { layout, view, width, now, palette } = scene;
  const toX = (/** @type {number} */ at) => ((at - view.since) / (view.until - view.since)) * width;
  context.clearRect(0, 0, width, bottom - top);
  drawGrid(context, scene, toX, bottom - top);
  context.textBaseline = "middle";
  context.font = `600 ${11.5 * scene.scale}px ${palette.font}`;
  for (let at = findRow(layout, top); at < layout.rows.length; at++) {
    const row = layout.rows[at];
    const y = row.y - top;
    if (row.y > bottom) break;
    context.fillStyle = palette.line;
    if (row.kind === "group") {
      context.globalAlpha = 0.45;
      context.fillStyle = palette.heading;
      context.fillRect(0, y, width, row.height);
      context.globalAlpha = 1;
    } else context.fillRect(0, y + row.height - 1, width, 1);
    const { padding, labelHeight, trackHeight, barHeight } = layout.geometry;
    const first = y + padding + labelHeight + (trackHeight - barHeight) / 2;
    row.tracks.forEach((track, number) => {
      const rectangles = placeRuns(track, view, width, now);
      if (row.kind === "group") drawStrip(context, scene, rectangles, y + (row.height - barHeight) / 2, toX);
      else drawTrack(context, scene, rectangles, first + number * trackHeight, toX);
    });
  }
  drawNow(context, scene, toX(now), bottom - top);
}

/**
 * Draws the axis above the lanes.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {number} height
 * @param {string} nowLabel
 */
export function drawAxis(context, scene, height, nowLabel) {
  const { view, width, ticks, palette, scale, now } = scene;
  const toX = (/** @type {number} */ at) => ((at - view.since) / (view.until - view.since)) * width;
  context.clearRect(0, 0, width, height);
  context.textBaseline = "middle";
  const nowX = toX(now);
  context.font = `600 ${13 * scale}px ${palette.font}`;
  const chipWidth = context.measureText(nowLabel).width + 14 * scale;
  const chipLeft = Math.min(Math.max(nowX - chipWidth / 2, 0), width - chipWidth);
  const isNowShown = nowX >= 0 && nowX <= width;
  let free = 0;
  for (const { at, label, isDay } of ticks) {
    const x = toX(at);
    context.font = `${isDay ? 600 : 400} ${13 * scale}px ${palette.font}`;
    const left = x + 5 * scale;
    const right = left + context.measureText(label).width;
    context.fillStyle = palette.line;
    context.fillRect(Math.round(x), isDay ? 0 : height - 7 * scale, 1, height);
    const isCovered = isNowShown && right + 4 > chipLeft && left - 4 < chipLeft + chipWidth;
    if (isCovered || right > width || left < free) continue;
    free = right + 8 * scale;
    context.fillStyle = isDay ? palette.text : palette.muted;
    context.fillText(label, left, height / 2);
  }
  if (!isNowShown) return;
  context.font = `600 ${13 * scale}px ${palette.font}`;
  context.fillStyle = palette.now;
  context.beginPath();
  context.roundRect(chipLeft, (height - 22 * scale) / 2, chipWidth, 22 * scale, 11 * scale);
  context.fill();
  context.fillRect(Math.round(nowX) - 1, height / 2, 2, height / 2);
  context.fillStyle = palette.background;
  context.fillText(nowLabel, chipLeft + 7 * scale, height / 2 + 0.5);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {(at: number) => number} toX
 * @param {number} height
 */
function drawGrid(context, { ticks, palette, now, view, width }, toX, height) {
  context.fillStyle = palette.line;
  for (const { at, isDay } of ticks) {
    context.globalAlpha = isDay ? 1 : 0.55;
    context.fillRect(Math.round(toX(at)), 0, isDay ? 2 : 1, height);
  }
  context.globalAlpha = 0.3;
  // The future is shaded.
  const future = Math.max(toX(now), 0);
  context.fillStyle = palette.heading;
  if (view.until > now) context.fillRect(future, 0, width - future, height);
  context.globalAlpha = 1;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {number} x
 * @param {number} height
 */
function drawNow(context, { palette, width }, x, height) {
  if (x < 0 || x > width) return;
  context.fillStyle = palette.now;
  context.fillRect(Math.round(x) - 1, 0, 2, height);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Rectangle[]} rectangles
 * @param {number} y the top of the bars
 * @param {(at: number) => number} toX
 */
function drawTrack(context, scene, rectangles, y, toX) {
  const height = scene.layout.geometry.barHeight;
  for (const rectangle of rectangles) if (rectangle.run.end === null) drawEstimate(context, scene, rectangle.run, y, toX);
  // The worst last, so that a short failure is not covered.
  for (const severe of [false, true]) {
    for (const rectangle of rectangles) {
      if (severityOf(rectangle.run) > 3 === severe) drawBar(context, scene, rectangle, y, height);
    }
  }
  for (const { run, x, width } of rectangles) if (run.end === null) drawCondition(context, scene, run, x, x + width, y, toX);
}

// All runs of a folded group lie over each other: a thin line where any runs, and a mark at the end of each failed one.
/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Rectangle[]} rectangles
 * @param {number} y the top of a bar
 * @param {(at: number) => number} toX
 */
function drawStrip(context, { palette, layout, now }, rectangles, y, toX) {
  const { barHeight } = layout.geometry;
  const colourOf = (/** @type {State} */ state) => palette.paints[state].colour;
  context.globalAlpha = STRIP_ALPHA;
  for (const { run, x, width } of rectangles) {
    context.fillStyle = colourOf(run.state === "failed" ? "stopped" : run.state);
    context.fillRect(x, y + barHeight * 0.3, width, barHeight * 0.4);
  }
  context.globalAlpha = 1;
  for (const { run } of rectangles) {
    if (severityOf(run) < 3) continue;
    context.fillStyle = colourOf(run.state);
    context.fillRect(toX(run.end ?? now) - MARK_WIDTH_PX, y - 1, MARK_WIDTH_PX, barHeight + 2);
  }
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {Rectangle} rectangle
 * @param {number} y
 * @param {number} height
 */
function drawBar(context, { palette, scale, width: sceneWidth }, { x, width, run }, y, height) {
  const paint = palette.paints[run.state];
  context.fillStyle = paint.fill;
  if (width < MIN_ROUND_PX) {
    if (run.state === "failed") {
      // A short failure reaches beyond its neighbours.
      context.fillStyle = paint.colour;
      context.fillRect(x, y - FAILURE_MARK_PX, Math.max(width, 3), height + 2 * FAILURE_MARK_PX);
    } else {
      if (typeof paint.fill !== "string" || paint.fill === palette.background) context.fillStyle = paint.colour;
      context.fillRect(x, y, width < 3 ? width : width - 1, height);
    }
    return;
  }
  // A gap of a pixel separates a run from its successor.
  const length = Math.max(width - 1, 3);
  context.beginPath();
  const radius = Math.min(RADIUS_PX * scale, length / 2);
  context.roundRect(x, y, length, height, run.end === null ? [radius, 0, 0, radius] : radius);
  context.fill();
  if (paint.fill !== paint.colour) {
    context.strokeStyle = paint.edge;
    context.lineWidth = 1.5;
    context.beginPath();
    context.roundRect(x + 0.75, y + 0.75, length - 1.5, height - 1.5, Math.min(radius, (length - 1.5) / 2));
    context.stroke();
  }
  const left = Math.max(x, 0);
  const visible = Math.min(x + width, sceneWidth) - left;
  if (visible < ICON_WIDTH_PX * scale) return;
  drawBarText(context, palette, scale, run, left, visible, y + height / 2 + 0.5);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Palette} palette
 * @param {number} scale
 * @param {TimelineRun} run
 * @param {number} x
 * @param {number} width
 * @param {number} middle
 */
function drawBarText(context, palette, scale, run, x, width, middle) {
  const paint = palette.paints[run.state];
  const isPlate = typeof paint.fill !== "string";
  if (run.end === null) return;
  const icon = ICONS[/** @type {keyof typeof ICONS} */ (run.state)] ?? "";
  const text = width >= LABEL_WIDTH_PX * scale ? `${icon} ${formatDuration((run.end - run.start) / 1000)}` : icon;
  const label = text === icon || context.measureText(text).width + 12 * scale <= width ? text : icon;
  if (isPlate) {
    // A plate keeps the text legible on stripes.
    const length = context.measureText(label).width + 8 * scale;
    context.fillStyle = palette.background;
    context.beginPath();
    context.roundRect(x + 2.5 * scale, middle - 6.5 * scale, length, 12 * scale, 3 * scale);
    context.fill();
    context.fillStyle = paint.colour;
  } else context.fillStyle = paint.text;
  context.fillText(label, x + (isPlate ? 6 : 5) * scale, middle);
}
