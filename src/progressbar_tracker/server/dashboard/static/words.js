// Numbers and instants in words, the same as those of view.py.

export const ICONS = { running: "▶", stalled: "!", succeeded: "✓", failed: "✕", stopped: "■", deleted: "∅" };

const BYTES = ["kB", "MB", "GB", "TB", "PB"];
const SPANS = [[1, "s"], [60, "min"], [3600, "h"]];
const instants = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const times = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export function number(value) {
  if (Math.abs(value) >= 1e15) return value.toPrecision(3).replace(/\.?0+(?=e)/, "");
  // By hand: of a board's script, Intl would be a third.
  let text = value.toFixed(Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : 2);
  const least = value < 0 ? 1 : 0;
  const point = text.indexOf(".");
  for (let at = (point < 0 ? text.length : point) - 3; at > least; at -= 3) text = `${text.slice(0, at)},${text.slice(at)}`;
  return text;
}

/** A share of 1 as text. 0.29 * 100 is 28.999999999999996; and only the end is 100 %. */
export function percent(value) {
  return `${value >= 1 ? 100 : Math.min(Math.floor((value + 1e-9) * 100), 99)} %`;
}

/** A stretch of time to the second: what is left, what it took. */
export function duration(seconds) {
  const floor = Math.floor;
  if (seconds < 60) return `${floor(seconds)} s`;
  if (seconds < 3600) return `${floor(seconds / 60)} min ${floor(seconds % 60)} s`;
  if (seconds < 86400) return `${floor(seconds / 3600)} h ${floor((seconds % 3600) / 60)} min`;
  return seconds < 1e9 ? `${floor(seconds / 86400)} d ${floor((seconds % 86400) / 3600)} h` : "ages";
}

/** A stretch of time at a glance: how old something is. */
export function span(seconds) {
  const past = Math.max(Math.floor(seconds), 0);
  if (past < 60) return `${past} s`;
  if (past < 3600) return `${Math.floor(past / 60)} min`;
  if (past < 36000) return `${Math.floor(past / 3600)} h ${Math.floor((past % 3600) / 60)} min`;
  return past < 172800 ? `${Math.floor(past / 3600)} h` : `${Math.floor(past / 86400)} d`;
}

export function stateOf(item) {
  return item.stalled ? "stalled" : item.status;
}

/** Whether no share can be shown: something is counted, and it is not known how much there is to do. */
export function isEndless({ completed, total, status }) {
  return completed !== null && (total === null || (total <= 0 && status === "running"));
}

/** Whether it runs and is endless. */
export function isOpen(item) {
  return item.status === "running" && isEndless(item);
}

export function nameOf(item) {
  return item.title || item.id;
}

/** The URL of an item's page. Browsers take dots for a place in the path, encoded or not. */
export function pageOf(id) {
  return id === "." || id === ".." ? `items/?id=${id}` : `items/${encodeURIComponent(id)}`;
}

export function count({ completed, total, unit }) {
  if (completed === null) return "";
  const [named, write] = scale(unit, Math.max(total ?? 0, completed));
  const of = total > 0 ? ` / ${write(total)}` : "";
  return `${write(completed)}${of} ${named}`.trimEnd();
}

export function pace({ rate, unit }) {
  if (rate === null) return "";
  const [named, write] = scale(unit || "it", rate);
  const [seconds, name] = SPANS.find(([long]) => rate * long >= 0.1) ?? SPANS[rate > 0 ? SPANS.length - 1 : 0];
  return `${write(rate * seconds)} ${named}/${name}`;
}

// The unit in which numbers up to `most` are read, and what writes them: never more than there is.
function scale(unit, most) {
  if (unit !== "B" || !(most >= 1e4 && most < 1e18)) return [unit, number];
  let power = BYTES.length;
  while (most < 1000 ** power) power--;
  const size = 1000 ** power;
  const digits = most < 10 * size ? 2 : most < 100 * size ? 1 : 0;
  return [BYTES[power - 1], (value) => (Math.floor((value / size) * 10 ** digits) / 10 ** digits).toFixed(digits)];
}

/** An instant in full, in the viewer's zone. */
export function exactly(instant) {
  return instants.format(new Date(instant));
}

export function timeOfDay(instant) {
  return times.format(new Date(instant));
}
