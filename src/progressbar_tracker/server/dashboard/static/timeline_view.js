// The interval that a timeline shows, and its axis. Pure. Days and hours are those of the viewer's time zone.

/** @typedef {import("./timeline.js").View} View */

/**
 * What the page shows: a range up to now, a local day, or a free interval.
 *
 * @typedef {{ kind: "range", name: string } | { kind: "day", day: string | null } | { kind: "free", since: number, until: number }} Choice
 */

/** @typedef {{ at: number, label: string, isDay: boolean }} Tick */

const MINUTE_MS = 60000;
const HOUR_MS = 3600000;
const DAY_MS = 86400000;
const MIN_SPAN_MS = MINUTE_MS;
const MAX_SPAN_MS = 40 * DAY_MS;
const FUTURE_SHARE = 0.125; // of a range, after now: for estimated finishes

/** @type {Record<string, number>} the names of ranges to milliseconds */
export const RANGES = { "1h": HOUR_MS, "6h": 6 * HOUR_MS, "24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS };

const STEPS_MS = [
  ...[0.25, 0.5, 1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE_MS),
  ...[1, 2, 3, 6, 12].map((hours) => hours * HOUR_MS),
];
const STEPS_DAYS = [1, 2, 5, 10];

/**
 * Reads the choice from the query of the page; today by default.
 *
 * @param {URLSearchParams} query
 * @returns {Choice}
 */
export function parseChoice(query) {
  const range = query.get("range") ?? "";
  if (Object.hasOwn(RANGES, range)) return { kind: "range", name: range };
  const [since, until] = ["since", "until"].map((name) => Date.parse(query.get(name) ?? ""));
  if (since < until) return { kind: "free", ...limitSpan({ since, until }) };
  const day = query.get("day") ?? "";
  return { kind: "day", day: /^\d{4}-\d\d-\d\d$/.test(day) && !Number.isNaN(Date.parse(day)) ? day : null };
}

/**
 * Writes a choice into a query; that of today is empty.
 *
 * @param {URLSearchParams} query
 * @param {Choice} choice
 */
export function writeChoice(query, choice) {
  for (const name of ["range", "since", "until", "day"]) query.delete(name);
  if (choice.kind === "range") query.set("range", choice.name);
  else if (choice.kind === "day" && choice.day !== null) query.set("day", choice.day);
  else if (choice.kind === "free") {
    for (const name of /** @type {const} */ (["since", "until"])) query.set(name, new Date(choice[name]).toISOString().replace(/\.\d+/, ""));
  }
}

/**
 * Returns the interval of a choice.
 *
 * @param {Choice} choice
 * @param {number} now
 * @returns {View}
 */
export function resolveChoice(choice, now) {
  if (choice.kind === "free") return { since: choice.since, until: choice.until };
  if (choice.kind === "range") return { since: now - RANGES[choice.name], until: now + RANGES[choice.name] * FUTURE_SHARE };
  const date = choice.day === null ? new Date(now) : parseDay(choice.day);
  return { since: startOfDay(date, 0), until: startOfDay(date, 1) };
}

/**
 * Returns the choice one step earlier or later: a day, or half of the interval.
 *
 * @param {Choice} choice
 * @param {number} direction -1 or 1
 * @param {number} now
 * @returns {Choice}
 */
export function stepChoice(choice, direction, now) {
  const view = resolveChoice(choice, now);
  if (choice.kind !== "day") return { kind: "free", ...panView(view, (direction * (view.until - view.since)) / 2) };
  const day = formatDay(startOfDay(new Date(view.since), direction));
  return { kind: "day", day: day === formatDay(now) ? null : day };
}

/**
 * Formats the local day of an instant, such as 2026-11-29.
 *
 * @param {number} instant
 */
export function formatDay(instant) {
  const date = new Date(instant);
  const parts = [date.getFullYear(), date.getMonth() + 1, date.getDate()];
  return parts.map((part, at) => String(part).padStart(at === 0 ? 4 : 2, "0")).join("-");
}

/**
 * Zooms an interval by a factor around an instant, which stays at its place.
 *
 * @param {View} view
 * @param {number} factor above 1 to see more
 * @param {number} at
 * @returns {View}
 */
export function zoomView({ since, until }, factor, at) {
  const span = Math.min(Math.max((until - since) * factor, MIN_SPAN_MS), MAX_SPAN_MS);
  const before = ((at - since) / (until - since)) * span;
  return { since: at - before, until: at - before + span };
}

/** @param {View} view @param {number} by milliseconds @returns {View} */
export function panView({ since, until }, by) {
  return { since: since + by, until: until + by };
}

/**
 * Returns the ticks of the axis: at full hours and days of the local time, also where the clock is changed.
 *
 * @param {View} view
 * @param {number} width pixels
 * @param {number} [gap] the least pixels between two ticks
 * @param {string} [locale]
 * @returns {Tick[]}
 */
export function chooseTicks({ since, until }, width, gap = 72, locale) {
  const least = ((until - since) / Math.max(width, 1)) * gap;
  const step = STEPS_MS.find((candidate) => candidate >= least);
  const days = STEPS_DAYS.find((count) => count * DAY_MS >= least) ?? 30;
  const ticks = /** @type {Tick[]} */ ([]);
  const formats = createFormats(locale, step);
  const first = new Date(since);
  for (let at = 0; ; at++) {
    const start = startOfDay(first, at);
    if (start > until) return ticks;
    const end = startOfDay(first, at + 1);
    if (step === undefined) {
      // Counted from a fixed day, so that the ticks keep their days while the view moves.
      const number = Math.round((start - new Date(start).getTimezoneOffset() * MINUTE_MS) / DAY_MS);
      if (start >= since && number % days === 0) ticks.push({ at: start, label: formats.day(start), isDay: true });
      continue;
    }
    for (const instant of splitDay(start, end, step)) {
      if (instant < since || instant > until) continue;
      const isDay = instant === start;
      ticks.push({ at: instant, label: isDay ? formats.day(instant) : formats.time(instant), isDay });
    }
  }
}

// Returns the instants of a local day at which its clock shows a multiple of a step.
/** @param {number} start @param {number} end @param {number} step @returns {number[]} */
function splitDay(start, end, step) {
  const instants = /** @type {number[]} */ ([]);
  if (step < HOUR_MS) {
    for (let instant = start; instant < end; instant += step) instants.push(instant);
    return instants;
  }
  const date = new Date(start);
  for (let hour = 0; hour < 24; hour += step / HOUR_MS) {
    const instant = new Date(date.getFullYear(), date.getMonth(), date.getDate(), hour).getTime();
    if (instant >= start && instant < end && instant !== instants[instants.length - 1]) instants.push(instant);
  }
  return instants;
}

/** @typedef {{ time: (at: number) => string, day: (at: number) => string }} Formats */
/** @type {Map<string, Formats>} */
const knownFormats = new Map();

/** @param {string | undefined} locale @param {number | undefined} step @returns {Formats} */
function createFormats(locale, step = Infinity) {
  const name = `${locale} ${step < MINUTE_MS} ${step < HOUR_MS}`;
  const known = knownFormats.get(name);
  if (known !== undefined) return known;
  const short = new Intl.DateTimeFormat(locale, { timeStyle: step < MINUTE_MS ? "medium" : "short" });
  const isTwelveHours = short.resolvedOptions().hourCycle?.startsWith("h1") ?? false;
  const time = isTwelveHours && step >= HOUR_MS ? new Intl.DateTimeFormat(locale, { hour: "numeric" }) : short;
  const day = new Intl.DateTimeFormat(locale, { weekday: "short", day: "numeric", month: "short" });
  const clean = (/** @type {Intl.DateTimeFormat} */ format) => (/** @type {number} */ at) => format.format(at).replace(/\s/g, " ");
  const formats = { time: clean(time), day: clean(day) };
  knownFormats.set(name, formats);
  return formats;
}

/** @param {Date} date @param {number} offset days @returns {number} */
function startOfDay(date, offset) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate() + offset).getTime();
}

/** @param {string} day @returns {Date} */
function parseDay(day) {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year, month - 1, date);
}

/** @param {View} view @returns {View} */
function limitSpan({ since, until }) {
  return until - since > MAX_SPAN_MS ? { since: until - MAX_SPAN_MS, until } : { since, until };
}
