// Formats numbers and instants; format.py renders the same texts at the first paint.

export const ICONS = { running: "▶", stalled: "!", succeeded: "✓", failed: "✕", stopped: "■", deleted: "∅" };

const BYTE_UNITS = ["kB", "MB", "GB", "TB", "PB"];
const RATE_UNITS = [[1, "s"], [60, "min"], [3600, "h"]];
const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const timeFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function formatNumber(value) {
  if (Math.abs(value) >= 1e15) return value.toPrecision(3).replace(/\.?0+(?=e)/, "");
  // Not with Intl: it would take a third of the time of the board's script.
  let text = value.toFixed(Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : 2);
  const firstDigit = value < 0 ? 1 : 0;
  const point = text.indexOf(".");
  for (let at = (point < 0 ? text.length : point) - 3; at > firstDigit; at -= 3) text = `${text.slice(0, at)},${text.slice(at)}`;
  return text;
}

/** Formats a fraction; rounds 0.29 * 100 = 28.999999999999996 up, and shows 100 % at the end only. */
export function formatPercent(value) {
  return `${value >= 1 ? 100 : Math.min(Math.floor((value + 1e-9) * 100), 99)} %`;
}

/** Formats a duration in seconds with two units, such as "1 h 1 min". */
export function formatDuration(seconds) {
  const floor = Math.floor;
  if (seconds < 60) return `${floor(seconds)} s`;
  if (seconds < 3600) return `${floor(seconds / 60)} min ${floor(seconds % 60)} s`;
  if (seconds < 86400) return `${floor(seconds / 3600)} h ${floor((seconds % 3600) / 60)} min`;
  return seconds < 1e9 ? `${floor(seconds / 86400)} d ${floor((seconds % 86400) / 3600)} h` : "ages";
}

/** Formats an age in seconds, shorter than a duration, such as "11 h". */
export function formatAge(seconds) {
  const age = Math.max(Math.floor(seconds), 0);
  if (age < 60) return `${age} s`;
  if (age < 3600) return `${Math.floor(age / 60)} min`;
  if (age < 36000) return `${Math.floor(age / 3600)} h ${Math.floor((age % 3600) / 60)} min`;
  return age < 172800 ? `${Math.floor(age / 3600)} h` : `${Math.floor(age / 86400)} d`;
}

export function stateOf(item) {
  return item.stalled ? "stalled" : item.status;
}

/** Whether an item is counted without a known total, so that it has no percentage. */
export function isIndeterminate({ completed, total, status }) {
  return completed !== null && (total === null || (total <= 0 && status === "running"));
}

/** Whether an item runs and is indeterminate. */
export function isOpenEnded(item) {
  return item.status === "running" && isIndeterminate(item);
}

export function titleOf(item) {
  return item.title || item.id;
}

/** Returns the URL of an item's page. Browsers resolve dot segments in a path, even encoded ones. */
export function itemUrl(id) {
  return id === "." || id === ".." ? `items/?id=${id}` : `items/${encodeURIComponent(id)}`;
}

export function formatCount({ completed, total, unit }) {
  if (completed === null) return "";
  const [scaledUnit, format] = scaleUnit(unit, Math.max(total ?? 0, completed));
  const of = total > 0 ? ` / ${format(total)}` : "";
  return `${format(completed)}${of} ${scaledUnit}`.trimEnd();
}

export function formatRate({ rate, unit }) {
  if (rate === null) return "";
  const [scaledUnit, format] = scaleUnit(unit || "it", rate);
  const [seconds, name] = RATE_UNITS.find(([length]) => rate * length >= 0.1) ?? RATE_UNITS[rate > 0 ? RATE_UNITS.length - 1 : 0];
  return `${format(rate * seconds)} ${scaledUnit}/${name}`;
}

// Returns the unit for numbers up to `maximum`, and a formatter that rounds down.
function scaleUnit(unit, maximum) {
  if (unit !== "B" || !(maximum >= 1e4 && maximum < 1e18)) return [unit, formatNumber];
  let power = BYTE_UNITS.length;
  while (maximum < 1000 ** power) power--;
  const size = 1000 ** power;
  const digits = maximum < 10 * size ? 2 : maximum < 100 * size ? 1 : 0;
  return [BYTE_UNITS[power - 1], (value) => (Math.floor((value / size) * 10 ** digits) / 10 ** digits).toFixed(digits)];
}

/** Formats an instant in full, in the viewer's time zone. */
export function formatInstant(instant) {
  return exactFormat.format(new Date(instant));
}

export function formatTimeOfDay(instant) {
  return timeFormat.format(new Date(instant));
}
