// The line about the next expected start on the page of an item. It is fetched again when it may have changed: at a new
// run, at the expected start, at the end of its grace, and when the page becomes visible.

import { ServerClock } from "./clock.js";
import { createTime } from "./dates.js";
import { createElement } from "./dom.js";
import { formatDuration } from "./format.js";
import { fetchJson } from "./urls.js";

const RETRY_DELAYS = [1500, 4000, 15000, 45000]; // milliseconds; the server notes starts and misses a moment later
const MAX_DELAY = 86400000;

/** @typedef {{ cron: string | null, every: number | null, timezone: string, grace: number, next_at: string | null, missed_at: string | null, missed: boolean }} Schedule */

/** Returns the line of this page, or `null` if its item has no schedule. */
export function createNextStart() {
  const line = document.getElementById("schedule");
  return line === null ? null : new NextStart(line);
}

class NextStart {
  #clock = new ServerClock();
  /** @type {Schedule | null} */
  #schedule = null;
  /** @type {string | null} */
  #runId = null; // of the board
  #attempt = 0;
  #dueAt = Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer = undefined;

  /** @param {HTMLElement} line */
  constructor(line) {
    this.line = line;
    this.id = line.dataset.id ?? "";
    document.addEventListener("visibilitychange", () => document.hidden || this.#refreshSoon());
  }

  /** @param {StreamMessage} message */
  handleMessage(message) {
    if ("time" in message && message.time !== null && message.type !== "offline") this.#clock.set(message.time);
    if (message.type !== "snapshot" && message.type !== "change") return;
    const runId = message.items.find((item) => item.id === this.id)?.run_id ?? this.#runId;
    if (message.type === "snapshot" || runId !== this.#runId) this.#refreshSoon();
    this.#runId = runId;
  }

  #refreshSoon() {
    this.#attempt = 0;
    if (this.#dueAt > performance.now() + this.#nextDelay()) this.#plan();
  }

  #nextDelay() {
    const retry = RETRY_DELAYS[this.#attempt];
    if (retry !== undefined) return retry;
    const { next_at, grace } = this.#schedule ?? { next_at: null, grace: 0 };
    const expected = next_at === null ? Infinity : Date.parse(next_at) - this.#clock.now();
    const delay = expected > 0 ? expected : expected + grace * 1000;
    return delay > 0 ? Math.min(delay, MAX_DELAY) : MAX_DELAY;
  }

  #plan() {
    clearTimeout(this.#timer);
    const delay = this.#nextDelay();
    this.#dueAt = performance.now() + delay;
    this.#timer = setTimeout(() => void this.#load(), delay);
  }

  async #load() {
    this.#attempt = this.#attempt < RETRY_DELAYS.length ? this.#attempt + 1 : 0;
    this.#dueAt = Infinity;
    try {
      const { body } = await fetchJson("api/v1/schedules", { id: this.id });
      this.#show(body.schedules[0] ?? null);
    } catch {
      // The next attempt follows; the page shows a lost connection.
    }
    if (this.#dueAt === Infinity) this.#plan();
  }

  /** @param {Schedule | null} schedule `null` if it was deleted */
  #show(schedule) {
    this.#schedule = schedule;
    this.line.hidden = schedule === null;
    if (schedule === null) return;
    const { next_at, missed_at, missed, every, cron, timezone } = schedule;
    const isOpen = next_at !== null && Date.parse(next_at) <= this.#clock.now();
    const isMissed = missed && missed_at !== null;
    this.#part("missed").hidden = !isMissed;
    if (isMissed) this.#part("missed-at").replaceChildren(createTime(missed_at));
    this.#part("next").replaceChildren(next_at === null ? "never" : createTime(next_at), isOpen ? " (now)" : "");
    const rule = every === null ? [createElement("code", { class: "cron" }, cron ?? ""), ` ${timezone}`] : [`every ${formatDuration(every)}`];
    this.#part("rule").replaceChildren(...rule);
  }

  /** @param {string} name */
  #part(name) {
    return /** @type {HTMLElement} */ (this.line.querySelector(`[data-part="${name}"]`));
  }
}
