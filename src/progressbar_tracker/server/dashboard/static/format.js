// Formats numbers, states and instants of items, in the viewer's language.

import { roundToStep } from "./clock.js";

/** @type {Record<State, string>} */
export const ICONS = {
  running: "▶", slower: "▷", stuck: "‖", stalled: "!", late: "◷", succeeded: "✓", failed: "✕", stopped: "■", deleted: "∅",
};

/**
 * The conditions of a running item, the most urgent one first.
 *
 * @type {Condition[]}
 */
export const CONDITIONS = ["stuck", "stalled", "late", "slower"];

const BYTE_UNITS = ["kB", "MB", "GB", "TB", "PB"];
/** @type {[seconds: number, name: string][]} */
const RATE_UNITS = [[1, "s"], [60, "min"], [3600, "h"]];
const COMPACT_LIMIT = 1e15; // larger numbers are such as "1000T"
const SCIENTIFIC_LIMIT = 1e18;
const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
/** @type {Map<string, Intl.NumberFormat>} */
const numberFormats = new Map(); // to create one takes as long as to draw many rows

/**
 * @param {string | undefined} locale
 * @param {number | "compact" | "scientific"} style the number of decimals, or a notation for large numbers
 */
function getNumberFormat(locale, style) {
  const key = `${locale} ${style}`;
  let format = numberFormats.get(key);
  if (format === undefined) {
    const options = typeof style === "number"
      ? { minimumFractionDigits: style, maximumFractionDigits: style }
      : { notation: style, maximumFractionDigits: style === "compact" ? 0 : 2 };
    // Durations and percentages have Latin digits, too.
    format = new Intl.NumberFormat(locale, { numberingSystem: "latn", ...options });
    numberFormats.set(key, format);
  }
  return format;
}

/**
 * Formats a number with two decimals at most.
 *
 * @param {number} value
 * @param {string} [locale] by default that of the viewer
 */
export function formatNumber(value, locale) {
  const size = Math.abs(value);
  const style = size >= SCIENTIFIC_LIMIT ? "scientific" : size >= COMPACT_LIMIT ? "compact" : Number.isInteger(value) || size >= 100 ? 0 : 2;
  return getNumberFormat(locale, style).format(value + 0); // -0 is 0
}

/**
 * Formats a fraction; rounds 0.29 * 100 = 28.999999999999996 up, and shows 100 % at the end only.
 *
 * @param {number} value
 */
export function formatPercent(value) {
  return `${value >= 1 ? 100 : Math.min(Math.floor((value + 1e-9) * 100), 99)} %`;
}

/**
 * Formats a duration with two units, such as "1 h 2 min", rounded to the smaller one.
 *
 * @param {number} seconds
 */
export function formatDuration(seconds) {
  if (!(seconds < 1e9)) return "ages";
  return formatSteps(roundToStep(seconds, seconds < 3600 ? 1 : seconds < 2 * 86400 ? 60 : 3600));
}

/**
 * Formats a rounded duration without zeros.
 *
 * @param {number} seconds
 */
export function formatSteps(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const [large, small, first, second] =
    seconds < 3600 ? [60, 1, "min", "s"] : seconds < 2 * 86400 ? [3600, 60, "h", "min"] : [86400, 3600, "days", "h"];
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${first}${rest > 0 ? ` ${rest} ${second}` : ""}`;
}

/**
 * Formats an age, shorter than a duration, such as "11 h".
 *
 * @param {number} seconds
 */
export function formatAge(seconds) {
  const age = Math.max(Math.floor(seconds), 0);
  if (age < 60) return `${age} s`;
  if (age < 3600) return `${Math.floor(age / 60)} min`;
  if (age < 36000) return `${Math.floor(age / 3600)} h ${Math.floor((age % 3600) / 60)} min`;
  return age < 172800 ? `${Math.floor(age / 3600)} h` : `${Math.floor(age / 86400)} days`;
}

/**
 * Returns the state that a page shows: the status, or a condition of a running item.
 *
 * @param {WireItem} item
 */
export function stateOf(item) {
  if (item.status !== "running") return item.status;
  return item.stalled ? "stalled" : item.stuck ? "stuck" : item.slower ? "slower" : item.status;
}

/**
 * Returns what to announce when the state of an item changes; "" for nothing.
 *
 * @param {string} before
 * @param {string} after
 */
export function describeStateChange(before, after) {
  if (before === after) return "";
  if (before === "stuck" && (after === "running" || after === "slower")) return "moving again";
  return after === "running" ? "" : after;
}

/**
 * Whether an item is counted without a known total, so that it has no percentage.
 *
 * @param {Pick<WireItem, "completed" | "total" | "status">} item
 */
export function isIndeterminate({ completed, total, status }) {
  return completed !== null && (total === null || (total <= 0 && status === "running"));
}

/**
 * Whether lists of runs leave one out, as `inner=false` does: an inner bar is a part of a run that is listed, and only a
 * failed one stands alone.
 *
 * @param {{ parent?: string | null, status: string }} run
 */
export function isInner({ parent, status }) {
  return (parent ?? null) !== null && status !== "failed";
}

/**
 * Whether an item runs and is indeterminate.
 *
 * @param {WireItem} item
 */
export function isOpenEnded(item) {
  return item.status === "running" && isIndeterminate(item);
}

/**
 * Returns the estimated share of the work of a running item whose share is unknown, 0 to 1; else null.
 *
 * @param {WireItem} item
 */
export function estimatedShareOf(item) {
  const share = item.estimated_value;
  if (item.status !== "running" || typeof share !== "number" || !(share >= 0 && share <= 1)) return null;
  return isIndeterminate(item) || (item.completed === null && item.value === 0) ? share : null;
}

/**
 * Formats an estimated share for screen readers.
 *
 * @param {number} share
 */
export function formatEstimatedShare(share) {
  return `about ${formatPercent(Math.min(share, 0.99))}, estimated`;
}

/**
 * Returns the percentage of an item: "~" marks an estimate, and an unknown share is empty.
 *
 * @param {WireItem} item
 */
export function formatItemPercent(item, share = estimatedShareOf(item)) {
  if (share !== null) return `~${formatPercent(Math.min(share, 0.99))}`;
  return isIndeterminate(item) ? "" : formatPercent(item.value);
}

/** @param {{ id: string, title: string }} item */
export function titleOf(item) {
  return item.title || item.id;
}

/**
 * Returns the URL of an item's page. Browsers resolve dot segments in a path, even encoded ones.
 *
 * @param {string} id
 */
export function itemUrl(id) {
  return id === "." || id === ".." ? `items/?id=${id}` : `items/${encodeURIComponent(id)}`;
}

/**
 * Formats a count with its total and unit, such as "3 / 5 files".
 *
 * @param {Pick<WireItem, "completed" | "total" | "unit">} item
 */
export function formatCount({ completed, total, unit }) {
  if (completed === null) return "";
  const [scaledUnit, format] = scaleUnit(unit, Math.max(total ?? 0, completed));
  const of = total !== null && total > 0 ? ` / ${format(total)}` : "";
  return `${format(completed)}${of} ${scaledUnit}`.trimEnd();
}

/**
 * Formats a rate per second, minute or hour.
 *
 * @param {Pick<WireItem, "rate" | "unit">} item
 */
export function formatRate({ rate, unit }) {
  if (rate === null) return "";
  const [scaledUnit, format] = scaleUnit(unit || "it", rate);
  const [seconds, name] = RATE_UNITS.find(([length]) => rate * length >= 0.1) ?? RATE_UNITS[rate > 0 ? RATE_UNITS.length - 1 : 0];
  return `${format(rate * seconds)} ${scaledUnit}/${name}`;
}

/**
 * Returns the unit for numbers up to `maximum`, and a formatter that rounds down.
 *
 * @param {string} unit
 * @param {number} maximum
 * @returns {[unit: string, format: (value: number) => string]}
 */
function scaleUnit(unit, maximum) {
  if (unit !== "B" || !(maximum >= 1e4 && maximum < 1e18)) return [unit, formatNumber];
  let power = BYTE_UNITS.length;
  while (maximum < 1000 ** power) power--;
  const size = 1000 ** power;
  const digits = maximum < 10 * size ? 2 : maximum < 100 * size ? 1 : 0;
  const format = getNumberFormat(undefined, digits);
  return [BYTE_UNITS[power - 1], (value) => format.format(Math.floor((value / size) * 10 ** digits) / 10 ** digits)];
}

/**
 * Formats an instant in full, in the viewer's time zone.
 *
 * @param {string | number} instant
 */
export function formatInstant(instant) {
  return exactFormat.format(new Date(instant));
}

/** @param {string | number} instant */
export function formatTimeOfDay(instant) {
  return timeFormat.format(new Date(instant));
}
