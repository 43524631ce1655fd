// Draws the signs of running runs: the estimated finish with its range, and the condition.

import { ICONS } from "./format.js";

/** @typedef {import("./timeline_canvas.js").Scene} Scene */
/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */

/** @type {Partial<Record<State, string>>} */
const CONDITION_TEXTS = { stuck: "stuck", stalled: "stalled", late: "late", slower: "slower" };

/**
 * Draws the time from now to the estimated finish, dashed, and the finish's range, hatched.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {TimelineRun} run
 * @param {number} y
 * @param {(at: number) => number} toX
 */
export function drawEstimate(context, { palette, layout, now, width }, run, y, toX) {
  if (run.finish === null) return;
  const height = layout.geometry.barHeight;
  const colour = palette.paints[run.state].colour;
  const from = toX(now);
  const finish = Math.max(toX(run.finish), from);
  if (from > width) return;
  if (run.high !== null && run.high > now) {
    const low = Math.max(toX(run.low ?? now), from);
    const high = Math.min(toX(run.high), width + 4);
    context.fillStyle = palette.range;
    context.globalAlpha = 0.75;
    context.fillRect(low, y + 2, Math.max(high - low, 1), height - 4);
    context.globalAlpha = 1;
  }
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.setLineDash([5, 3]);
  context.strokeRect(from - 1, y + 0.75, Math.min(finish, width + 4) - from + 1, height - 1.5);
  context.setLineDash([]);
  context.fillStyle = colour;
  context.fillRect(finish - 1.5, y - 1, 3, height + 2);
}

/**
 * Draws a label at the end of a run that is stuck, stalled, late or slower.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Scene} scene
 * @param {TimelineRun} run
 * @param {number} start the left end of the bar
 * @param {number} end the right end of the bar
 * @param {number} y
 * @param {(at: number) => number} toX
 */
export function drawCondition(context, { palette, scale, layout, width, now }, run, start, end, y, toX) {
  const words = /** @type {(string | undefined)[]} */ ([CONDITION_TEXTS[run.state], run.isLate && run.state !== "late" ? "late" : ""]);
  const text = words.filter(Boolean).join(", ");
  if (text === "") return;
  const label = `${ICONS[/** @type {keyof typeof ICONS} */ (run.state)] ?? "!"} ${text}`;
  const length = context.measureText(label).width + 10 * scale;
  const after = Math.max(end, run.finish === null ? 0 : toX(run.finish), run.high === null || run.high < now ? 0 : toX(run.high)) + 6 * scale;
  // After the estimate if there is room, else inside the bar's end, or before the bar.
  const inside = end - length - 4 * scale;
  const before = start - length - 4 * scale;
  const left = after + length <= width ? after : inside > start + length || before < 0 ? Math.max(inside, 0) : before;
  const height = layout.geometry.barHeight;
  context.fillStyle = palette.background;
  context.beginPath();
  context.roundRect(left, y + 0.5, length, height - 1, (height - 1) / 2);
  context.fill();
  context.strokeStyle = context.fillStyle = palette.paints[run.state].colour;
  context.lineWidth = 1.25;
  context.stroke();
  context.fillText(label, left + 5 * scale, y + height / 2 + 0.5);
}
