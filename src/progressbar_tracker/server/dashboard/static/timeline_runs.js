// The runs of a timeline: those that have ended, from the server's history, and those on the board, from the stream.

import { isInner } from "./format.js";
import { formatStop, readEstimate } from "./phrases.js";

/**
 * A run as the timeline shows it. Instants are in milliseconds since the epoch. The object of a running run stays the same
 * while its fields change.
 *
 * @typedef {object} TimelineRun
 * @property {string} key Identifies the run.
 * @property {string} id
 * @property {string} runId Empty on the pages of shares.
 * @property {string} title
 * @property {string} group Empty without a group.
 * @property {State} state
 * @property {boolean} isLate
 * @property {number} start
 * @property {number | null} end Null while it runs.
 * @property {number | null} finish The estimated end of a running run.
 * @property {number | null} low The begin of the range of the finish.
 * @property {number | null} high The end of the range of the finish.
 * @property {string} error The first line.
 * @property {string} stop Who has requested its stop; empty without a request.
 * @property {WireItem | null} item The item of a run on the board.
 */

/** @typedef {{ id: string, run_id?: string, title: string, group: string | null, status: Status | "deleted", started_at: string, ended_at: string | null, error: string | null, stop_requested_by?: string | null, parent?: string | null }} WireRun */

const MAX_ENDED_RUNS = 10000; // runs that ended while the page was open
const MAX_ERROR_LENGTH = 200;

export class RunStore {
  /** @type {Map<string, TimelineRun>} */
  #fetched = new Map();
  /** @type {Map<string, TimelineRun>} */
  #ended = new Map();
  /** @type {Map<string, TimelineRun>} runs on the board by item id */
  #onBoard = new Map();

  /**
   * Replaces the runs from the history.
   *
   * @param {WireRun[]} runs
   */
  setFetched(runs) {
    this.#fetched = new Map(runs.map((run) => [keyOf(run), createRun(run)]));
  }

  /**
   * Applies a message of the stream; returns whether a run has begun, ended or gone.
   *
   * @param {StreamMessage} message
   * @param {number} now
   * @returns {boolean}
   */
  apply(message, now) {
    if (message.type !== "snapshot" && message.type !== "change") return false;
    let isDifferent = false;
    if (message.type === "snapshot") {
      const ids = new Set(message.items.map(({ id }) => id));
      for (const id of [...this.#onBoard.keys()]) if (!ids.has(id)) isDifferent = this.#onBoard.delete(id) || isDifferent;
    } else {
      for (const run of message.ended) isDifferent = this.#addEnded(run) || isDifferent;
      for (const id of message.gone) isDifferent = this.#onBoard.delete(id) || isDifferent;
    }
    for (const item of message.items) isDifferent = this.#setItem(item, now) || isDifferent;
    return isDifferent;
  }

  /**
   * Returns the runs that overlap an interval, in no particular order. A run on the board wins over its history.
   *
   * @param {{ since: number, until: number }} view
   * @returns {TimelineRun[]}
   */
  list({ since, until }) {
    const runs = new Map(this.#fetched);
    for (const [key, run] of this.#ended) runs.set(key, run);
    for (const run of this.#onBoard.values()) runs.set(run.key, run);
    return [...runs.values()].filter((run) => run.start < until && (run.end ?? Infinity) > since);
  }

  /** Returns the runs of the board. */
  listCurrent() {
    return [...this.#onBoard.values()];
  }

  /**
   * Forgets runs that ended before an instant.
   *
   * @param {number} since
   */
  prune(since) {
    for (const [key, run] of this.#ended) if ((run.end ?? Infinity) < since) this.#ended.delete(key);
  }

  /** @param {WireItem} run */
  #addEnded(run) {
    if (isInner(run)) return false;
    const key = keyOf(run);
    this.#ended.delete(key);
    this.#ended.set(key, createRun(run));
    for (const oldest of this.#ended.keys()) {
      if (this.#ended.size <= MAX_ENDED_RUNS) break;
      this.#ended.delete(oldest);
    }
    return true;
  }

  /** @param {WireItem} item @param {number} now */
  #setItem(item, now) {
    if (isInner(item)) return this.#onBoard.delete(item.id);
    const run = this.#onBoard.get(item.id);
    if (run === undefined || run.key !== keyOf(item)) {
      this.#onBoard.set(item.id, createRun(item, now));
      return true;
    }
    const { start, end, group, title } = run;
    Object.assign(run, createRun(item, now));
    return start !== run.start || end !== run.end || group !== run.group || title !== run.title;
  }
}

/**
 * Returns the run of an item, or of a row of the history.
 *
 * @param {WireRun | WireItem} wire
 * @param {number} [now]
 * @returns {TimelineRun}
 */
export function createRun(wire, now = 0) {
  const isRunning = wire.status === "running";
  const item = "eta" in wire ? wire : null;
  const start = Date.parse(wire.started_at);
  const end = isRunning ? null : Math.max(wire.ended_at === null ? start : Date.parse(wire.ended_at), start);
  const estimate = isRunning && item !== null ? readEstimate(item, now) : null;
  const finish = estimate === null ? null : (estimate.finishAt === null ? now + estimate.remaining * 1000 : estimate.finishAt * 1000);
  const isLate = isRunning && item !== null && item.late;
  return {
    key: keyOf(wire),
    id: wire.id,
    runId: wire.run_id ?? "",
    title: wire.title,
    group: wire.group ?? "",
    state: isRunning && item !== null ? runningStateOf(item) : wire.status,
    isLate,
    start,
    end,
    finish,
    low: estimate?.lowAt == null ? null : estimate.lowAt * 1000,
    high: estimate?.highAt == null ? null : estimate.highAt * 1000,
    error: (wire.error ?? "").trim().split("\n", 1)[0].slice(0, MAX_ERROR_LENGTH),
    stop: formatStop({ stop_requested_by: wire.stop_requested_by ?? null, status: wire.status }),
    item: isRunning ? item : null,
  };
}

/** @param {WireItem} item @returns {State} */
function runningStateOf(item) {
  return item.stalled ? "stalled" : item.stuck ? "stuck" : item.late ? "late" : item.slower ? "slower" : "running";
}

// Runs of shares have no run id.
/** @param {{ id: string, run_id?: string, started_at: string }} wire */
function keyOf({ id, run_id, started_at }) {
  return `${id}\n${run_id || started_at}`;
}
