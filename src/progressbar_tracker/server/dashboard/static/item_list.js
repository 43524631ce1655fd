// Fetches a list of items: all its pages.

const PROBLEM_TYPE = "application/problem+json";

/**
 * @typedef {object} ItemList
 * @property {WireItem[]} items
 * @property {string} time The server's time, to the second.
 * @property {string} eventId A stream resumes after it; empty if the server does not say.
 * @property {string} etag
 */

/** A response that is not a success. */
export class StatusError extends Error {
  /** @param {Response} response */
  constructor(response) {
    super(`${response.url}: ${response.status}`);
    this.status = response.status;
    /** Whether the server answered, and not a proxy while the server is down. */
    this.isProblem = (response.headers.get("Content-Type") ?? "").startsWith(PROBLEM_TYPE);
  }
}

/**
 * Fetches the items of a list.
 *
 * @param {URL} url
 * @param {AbortSignal} signal
 * @param {string} [etag] The tag of a former list.
 * @returns {Promise<ItemList | { items: null, time: string }>} Without items if the list still has that tag.
 * @throws {StatusError | TypeError | DOMException}
 */
export async function fetchItemList(url, signal, etag = "") {
  const response = await fetch(url, { headers: etag === "" ? {} : { "If-None-Match": etag }, signal, cache: "no-store" });
  if (response.status === 304) return { items: null, time: responseTime(response) };
  if (!response.ok) throw new StatusError(response);
  const items = (await response.json()).items;
  // Changes after the first page are sent again by the stream that resumes from it.
  for (let next = nextUrl(response); next !== null; ) {
    const page = await fetch(next, { signal, cache: "no-store" });
    if (!page.ok) throw new StatusError(page);
    items.push(...(await page.json()).items);
    next = nextUrl(page);
  }
  return {
    items, time: responseTime(response), eventId: response.headers.get("Event-ID") ?? "",
    etag: response.headers.get("ETag") ?? "",
  };
}

/**
 * Returns the server's time of a response.
 *
 * @param {Response} response
 */
export function responseTime(response) {
  const time = Date.parse(response.headers.get("Date") ?? "");
  return new Date(Number.isNaN(time) ? Date.now() : time).toISOString();
}

/**
 * @param {Response} response
 * @returns {URL | null}
 */
function nextUrl(response) {
  const link = /<([^>]*)>;\s*rel="?next"?/.exec(response.headers.get("Link") ?? "");
  return link === null ? null : new URL(link[1], response.url);
}
