// The URLs of pages and of the interface, absolute, since pages have different depths.

import { itemUrl } from "./format.js";

/** The URL of the board. */
export const ROOT = new URL(import.meta.url.replace(/static\/(?:[^/]+\/)?[^/]*$/, ""));

/**
 * Returns the URL of an item's page.
 *
 * @param {string} id
 */
export function itemPageUrl(id) {
  return new URL(itemUrl(id), ROOT).href;
}

/**
 * Returns the URL of a run's page.
 *
 * @param {string} id
 * @param {string} runId
 */
export function runPageUrl(id, runId) {
  const url = new URL(itemUrl(id), ROOT);
  url.searchParams.set("run", runId);
  return url.href;
}

/**
 * Returns the URL of the history.
 *
 * @param {Record<string, string>} filters
 */
export function historyPageUrl(filters) {
  const url = new URL("history", ROOT);
  for (const [name, value] of Object.entries(filters)) url.searchParams.set(name, value);
  return url.href;
}

/** A response that is no success. */
export class ResponseError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const REQUEST_TIMEOUT = 20000; // milliseconds

/**
 * Fetches JSON.
 *
 * @param {string} path relative to the board
 * @param {Record<string, string | number | undefined>} query `undefined` leaves a parameter out
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ body: any, next: string | null }>} the document, and the cursor of the next page
 */
export async function fetchJson(path, query, signal) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
  const timeout = AbortSignal.timeout(REQUEST_TIMEOUT);
  const response = await fetch(url, { signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]) });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new ResponseError(body.detail ?? `The server answered ${response.status}.`, response.status);
  return { body, next: parseNextCursor(response.headers.get("Link")) };
}

/** @param {string | null} link */
function parseNextCursor(link) {
  const target = /<([^>]*)>;\s*rel="?next"?/.exec(link ?? "");
  return target === null ? null : new URL(/** @type {string} */ (target[1]), ROOT).searchParams.get("after");
}
