// Fetches what the item page and the run page show: the curve, the statistics and the runs of an id.

import { fetchJson } from "./urls.js";

const FORMER_CURVES = 8;
const MAX_RUNS = 20;
const MAX_CHILDREN = 200;
const SEARCH_PAGE = 1000;
const MAX_SEARCH_PAGES = 10;

/** @typedef {{ curves: RunCurve[], parts: Record<string, number>, statistics: RunStatistics, runs: WireItem[], run: WireItem | null }} RunData */

/**
 * Fetches the data of a run.
 *
 * @param {string} id
 * @param {string | null} runId `null` for the current or last one
 * @param {AbortSignal} signal
 * @returns {Promise<RunData>} `runs`: the last ended ones of the id; `run`: the run, if it has ended
 */
export async function fetchRunData(id, runId, signal) {
  const [curves, statistics, runs, run] = await Promise.all([
    fetchJson("api/v1/curves", { id, run_id: runId ?? undefined, former: FORMER_CURVES }, signal),
    fetchJson("api/v1/history:statistics", { id }, signal),
    fetchJson("api/v1/history", { id, limit: MAX_RUNS }, signal),
    runId === null ? null : fetchJson("api/v1/history", { id, run_id: runId, limit: 1 }, signal),
  ]);
  const ended = run === null ? runs : run;
  return { curves: curves.body.runs, parts: curves.body.parts ?? {}, statistics: statistics.body, runs: runs.body.items, run: ended.body.items[0] ?? null };
}

/**
 * Fetches the counts of the parts of a run.
 *
 * @param {WireItem} run
 * @returns {Promise<Record<string, number>>}
 */
export async function fetchParts({ id, run_id: runId }) {
  const { body } = await fetchJson("api/v1/curves", { id, run_id: runId, former: 0 });
  return body.parts ?? {};
}

/**
 * Fetches the inner bars of a run that have left the board.
 *
 * @param {WireItem} run
 * @param {AbortSignal} signal
 * @returns {Promise<{ children: WireItem[], hasMore: boolean }>} the newest ones, and whether there are others
 */
export async function fetchChildren({ id, started_at: since, ended_at: until }, signal) {
  const { body, next } = await fetchJson("api/v1/history", { parent: id, since, until: until ?? undefined, limit: MAX_CHILDREN }, signal);
  return { children: body.items, hasMore: next !== null };
}

/** @typedef {{ previous: string | null, next: string | null }} Neighbours */

/**
 * Returns the runs before and after a run.
 *
 * @param {string[]} runIds newest first
 * @param {string} runId
 * @returns {Neighbours | null} `null` if the run or its predecessor may be beyond the end of the list
 */
export function findNeighbours(runIds, runId) {
  const place = runIds.indexOf(runId);
  if (place < 0) return null;
  return { previous: runIds[place + 1] ?? null, next: runIds[place - 1] ?? null };
}

/**
 * Searches the history for the runs before and after a run.
 *
 * @param {string} id
 * @param {string} runId
 * @param {AbortSignal} signal
 * @returns {Promise<Neighbours>}
 */
export async function searchNeighbours(id, runId, signal) {
  /** @type {string[]} */
  const runIds = [];
  /** @type {string | null} */
  let after = null;
  for (let page = 0; page < MAX_SEARCH_PAGES; page++) {
    const { body, next } = await fetchJson("api/v1/history", { id, limit: SEARCH_PAGE, after: after ?? undefined }, signal);
    runIds.push(...body.items.map((/** @type {WireItem} */ run) => run.run_id));
    const found = findNeighbours(runIds, runId);
    if (next === null || (found !== null && found.previous !== null)) return found ?? { previous: null, next: null };
    after = next;
  }
  return { previous: null, next: null };
}
