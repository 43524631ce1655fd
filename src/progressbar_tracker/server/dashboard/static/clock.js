// Clock times in the viewer's time zone, language and hour cycle. _phrases.py names days by the same rules.

const MAX_CACHED_TEXTS = 2000;
const DAY_MS = 86400000;

/**
 * Returns a clock for the phrases; by default that of the viewer.
 *
 * @param {string} [locale]
 * @param {string} [timeZone]
 */
export function createClock(locale, timeZone) {
  // Created when they are needed: each takes as long as drawing many rows.
  /** @type {Map<string, Intl.DateTimeFormat>} */
  const formats = new Map();
  /** @type {Map<string, string>} */
  const texts = new Map();
  /**
   * @param {string} name
   * @param {Intl.DateTimeFormatOptions} options
   * @param {number | Date} instant
   */
  const format = (name, options, instant) => {
    let dateFormat = formats.get(name);
    if (dateFormat === undefined) {
      dateFormat = new Intl.DateTimeFormat(name === "day" ? "en-CA" : locale, { timeZone, ...options });
      formats.set(name, dateFormat);
    }
    return dateFormat.format(instant).replace(/\s/g, " ");
  };
  /**
   * @param {string} name
   * @param {Intl.DateTimeFormatOptions} options
   * @param {number} instant
   */
  const remember = (name, options, instant) => {
    const key = `${name}${instant}`;
    let text = texts.get(key);
    if (text === undefined) {
      if (texts.size >= MAX_CACHED_TEXTS) texts.clear();
      text = format(name, options, instant);
      texts.set(key, text);
    }
    return text;
  };
  return {
    /**
     * Returns the number of the local day.
     *
     * @param {number} instant
     */
    day(instant) {
      const date = new Date(instant);
      if (timeZone === undefined) return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / DAY_MS;
      return Date.parse(format("day", { year: "numeric", month: "2-digit", day: "2-digit" }, date)) / DAY_MS;
    },
    time: (/** @type {number} */ instant) => remember("time", { timeStyle: "short" }, instant),
    weekday: (/** @type {number} */ instant) => remember("weekday", { weekday: "short" }, instant),
    date: (/** @type {number} */ instant) => remember("date", { day: "numeric", month: "short" }, instant),
    fullDate: (/** @type {number} */ instant) => remember("fullDate", { day: "numeric", month: "short", year: "numeric" }, instant),
  };
}

export const viewerClock = createClock();

const MAX_CLOCK_JITTER = 2000; // milliseconds by which the journey of a message may vary

/** The server's clock, from the times of its messages. It stops while there is no connection. */
export class ServerClock {
  /** @type {number | null} */
  #offset = null; // the server's clock minus the browser's, in milliseconds
  /** @type {number | null} */
  #stoppedAt = null;

  /**
   * Sets the clock. A small difference is ignored, so that texts do not flicker.
   *
   * @param {string} time
   */
  set(time) {
    const offset = Date.parse(time) - Date.now();
    if (this.#offset === null || Math.abs(offset - this.#offset) > MAX_CLOCK_JITTER) this.#offset = offset;
    this.#stoppedAt = null;
  }

  /** @param {string | null} [time] of the last message; by default now */
  stop(time = null) {
    this.#stoppedAt = time === null ? this.now() : Date.parse(time);
  }

  get isStopped() {
    return this.#stoppedAt !== null;
  }

  /** Returns milliseconds since the epoch. */
  now() {
    return this.#stoppedAt ?? Date.now() + (this.#offset ?? 0);
  }
}

/**
 * Formats a clock time, with its day unless that is today or the day of `near`; only the date if it is a week away or
 * more. Instants are in milliseconds, `step` is the rounding in seconds.
 *
 * @param {number} instant
 * @param {number} now
 * @param {typeof viewerClock} [clock]
 * @param {number} [step]
 * @param {number} [near]
 */
export function formatClockTime(instant, now, clock = viewerClock, step = 60, near = now) {
  const at = roundToStep(instant, step * 1000);
  const day = clock.day(at);
  const distance = Math.abs(day - clock.day(now));
  if (!(distance < 1e8)) return "";
  if (distance >= 330) return clock.fullDate(at);
  if (distance >= 7) return clock.date(at);
  const isNamed = day === clock.day(near === now ? now : roundToStep(near, step * 1000));
  return isNamed ? clock.time(at) : `${clock.weekday(at)} ${clock.time(at)}`;
}

/**
 * Rounds to the nearest multiple of a step.
 *
 * @param {number} seconds
 * @param {number} step
 */
export function roundToStep(seconds, step) {
  return Math.floor(seconds / step + 0.5) * step;
}
