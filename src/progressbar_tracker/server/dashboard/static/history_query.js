// The filters of the history in the URL of the page, and in requests. Pure.

/** @typedef {{ q: string, group: string, status: string, id: string, parent: string, inner: boolean, after: string }} HistoryQuery */

const NAMES = /** @type {const} */ (["q", "group", "status", "id", "parent"]);

/**
 * Returns the query of a page's URL. Inner bars are hidden by default, unless the page is about one item.
 *
 * @param {string} search
 * @returns {HistoryQuery}
 */
export function parseQuery(search) {
  const params = new URLSearchParams(search);
  const [q, group, status, id, parent] = NAMES.map((name) => params.get(name) ?? "");
  const inner = params.get("inner");
  const isInner = inner === null ? id !== "" || parent !== "" : inner === "true";
  return /** @type {HistoryQuery} */ ({ q, group, status, id, parent, inner: isInner, after: params.get("after") ?? "" });
}

/**
 * Returns the search part of the page's URL; "" without filters.
 *
 * @param {HistoryQuery} query
 */
export function buildSearch(query) {
  const params = new URLSearchParams();
  for (const name of NAMES) if (query[name] !== "") params.set(name, query[name]);
  if (query.inner !== (query.id !== "" || query.parent !== "")) params.set("inner", String(query.inner));
  if (query.after !== "") params.set("after", query.after);
  const text = params.toString();
  return text === "" ? "" : `?${text}`;
}

/**
 * Returns the parameters of a request, without the cursor.
 *
 * @param {HistoryQuery} query
 * @returns {Record<string, string>}
 */
export function buildRequestQuery(query) {
  /** @type {Record<string, string>} */
  const params = {};
  for (const name of NAMES) if (query[name] !== "") params[name] = query[name];
  if (!query.inner) params.inner = "false";
  return params;
}

/**
 * Whether a query leaves out runs by a choice of the reader.
 *
 * @param {HistoryQuery} query
 */
export function hasFilter(query) {
  return NAMES.some((name) => query[name] !== "");
}
