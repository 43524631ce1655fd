// The last runs of the items that are visible: read in batches, kept, and extended by the runs that the stream reports.

const MAX_IDS_PER_REQUEST = 50;
const MAX_ADDRESS_LENGTH = 8000; // servers and proxies refuse long addresses
const MAX_RUNS = 20;
const MAX_CACHED_IDS = 2000;
const MAX_WANTED_IDS = 200;
const COLLECT_DELAY_MS = 100;
const RETRY_DELAY_MS = 5000;
const FETCH_TIMEOUT_MS = 10000;

/** @typedef {{ run_id: string, status: Status | "deleted", duration_seconds: number | null }} FormerRun */
/** @typedef {(ids: string[]) => Promise<Record<string, FormerRun[]>>} FetchRuns */

export class RunCache {
  /** @type {Map<string, FormerRun[]>} */
  #runs = new Map(); // the least recently used first
  /** @type {Set<string>} */
  #stale = new Set();
  /** @type {Set<string>} */
  #wanted = new Set();
  /** @type {Set<string>} */
  #loading = new Set();
  /** @type {WireItem[]} */
  #ended = []; // while runs are being read, which may not have the newest
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #onLoad;
  #fetchRuns;

  /**
   * @param {(ids: string[]) => void} onLoad called with the ids whose runs have become known
   * @param {FetchRuns} [fetchRuns]
   */
  constructor(onLoad, fetchRuns = fetchRecentRuns) {
    this.#onLoad = onLoad;
    this.#fetchRuns = fetchRuns;
  }

  /**
   * Returns the runs of an item, newest first; undefined if they are not known yet. They are then read soon.
   *
   * @param {string} id
   */
  get(id) {
    const runs = this.#runs.get(id);
    if (runs !== undefined) {
      this.#runs.delete(id);
      this.#runs.set(id, runs);
    }
    if ((runs === undefined || this.#stale.has(id)) && !this.#loading.has(id)) this.#request(id);
    return runs;
  }

  /**
   * Adds a run that has just ended.
   *
   * @param {WireItem} run
   */
  add(run) {
    if (this.#loading.has(run.id)) this.#ended.push(run);
    const former = this.#runs.get(run.id);
    if (former === undefined || former.some(({ run_id }) => run_id === run.run_id)) return;
    const duration_seconds = Math.max(Date.parse(run.ended_at ?? run.updated_at) - Date.parse(run.started_at), 0) / 1000;
    this.#runs.set(run.id, [{ run_id: run.run_id, status: run.status, duration_seconds }, ...former].slice(0, MAX_RUNS));
  }

  /** Reads all runs again when they are needed: some may have ended while there was no connection. */
  expire() {
    this.#stale = new Set(this.#runs.keys());
  }

  /** @param {string} id */
  #request(id) {
    this.#wanted.delete(id);
    this.#wanted.add(id);
    // A reader who scrolls fast has left the oldest rows. They ask again if they become visible again.
    for (const oldest of this.#wanted) {
      if (this.#wanted.size <= MAX_WANTED_IDS) break;
      this.#wanted.delete(oldest);
    }
    this.#timer ??= setTimeout(() => this.#load(), COLLECT_DELAY_MS);
  }

  async #load() {
    const ids = limitLength([...this.#wanted].slice(-MAX_IDS_PER_REQUEST));
    for (const id of ids) {
      this.#wanted.delete(id);
      this.#loading.add(id);
    }
    let delay = COLLECT_DELAY_MS;
    try {
      const items = await this.#fetchRuns(ids);
      for (const id of ids) {
        this.#runs.set(id, items[id] ?? []);
        this.#stale.delete(id);
      }
      for (const id of this.#runs.keys()) {
        if (this.#runs.size <= MAX_CACHED_IDS) break;
        this.#runs.delete(id);
        this.#stale.delete(id);
      }
    } catch {
      // The columns are an extra: the row is complete without them.
      delay = RETRY_DELAY_MS;
      for (const id of ids) this.#wanted.add(id);
    }
    this.#loading.clear();
    for (const run of this.#ended.splice(0)) this.add(run);
    this.#timer = this.#wanted.size > 0 ? setTimeout(() => this.#load(), delay) : undefined;
    if (delay === COLLECT_DELAY_MS) this.#onLoad(ids);
  }
}

/**
 * @param {string[]} ids
 * @returns {Promise<Record<string, FormerRun[]>>}
 */
async function fetchRecentRuns(ids) {
  const query = new URLSearchParams(ids.map((id) => ["id", id]));
  query.set("limit", `${MAX_RUNS}`);
  const response = await fetch(`api/v1/history:recent?${query}`, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
  if (!response.ok) throw new Error(`${response.status}`);
  return (await response.json()).items;
}

/**
 * Returns the last ids that fit into an address, at least one.
 *
 * @param {string[]} ids
 * @returns {string[]}
 */
export function limitLength(ids) {
  let length = 0;
  let at = ids.length;
  while (at > 0) {
    length += encodeURIComponent(ids[at - 1]).length + "&id=".length;
    if (length > MAX_ADDRESS_LENGTH && at < ids.length) break;
    at--;
  }
  return ids.slice(at);
}
