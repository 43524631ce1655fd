// The page of the history. The filters and the cursor are in the URL; a change of them loads runs, and not the page.

import { createElement, requireElement, setText } from "./dom.js";
import { buildRequestQuery, buildSearch, hasFilter, parseQuery } from "./history_query.js";
import { createRunTable } from "./run_table.js";
import { ROOT, ResponseError, fetchJson, itemPageUrl } from "./urls.js";

const PAGE_SIZE = 50;
const TYPING_DELAY = 250; // milliseconds without a key after which a search begins

/** @typedef {import("./history_query.js").HistoryQuery} HistoryQuery */

const form = /** @type {HTMLFormElement} */ (requireElement("filters"));
const runs = requireElement("runs");
const problem = requireElement("problem");
const newest = /** @type {HTMLAnchorElement} */ (requireElement("newest"));
const older = /** @type {HTMLAnchorElement} */ (requireElement("older"));

let query = parseQuery(location.search);
let request = new AbortController();
/** @type {ReturnType<typeof setTimeout> | undefined} */
let typingTimer;
let shownKey = "";
let wasTyped = false; // whether the last query came from a text field: its next one replaces it

/** @param {string} name */
function field(name) {
  return /** @type {HTMLInputElement} */ (form.elements.namedItem(name));
}

/**
 * Fetches and shows the runs of the query.
 *
 * @param {{ isQuiet?: boolean }} [options] `isQuiet`: leave the table as it is if it has the same runs
 */
async function load({ isQuiet = false } = {}) {
  request.abort();
  const { signal } = (request = new AbortController());
  runs.setAttribute("aria-busy", "true");
  try {
    const params = { ...buildRequestQuery(query), limit: PAGE_SIZE, after: query.after || undefined };
    const { body, next } = await fetchJson("api/v1/history", params, signal);
    problem.hidden = true;
    const key = JSON.stringify([body.items.map((/** @type {WireItem} */ run) => [run.id, run.run_id, run.ended_at]), next]);
    if (!isQuiet || key !== shownKey) showRuns(body.items, next);
    shownKey = key;
  } catch (error) {
    if (signal.aborted) return;
    showProblem(error);
  }
  runs.setAttribute("aria-busy", "false");
}

/**
 * @param {WireItem[]} items
 * @param {string | null} next the cursor of the next page
 */
function showRuns(items, next) {
  if (items.length > 0) runs.replaceChildren(createRunTable("Ended runs, newest first", items));
  else runs.replaceChildren(createElement("p", { class: "empty" }, describeEmptiness()));
  setText(requireElement("result"), items.length === 0 ? "No run matches." : `${items.length} runs${next === null ? "" : ", and older ones"}.`);
  newest.hidden = query.after === "";
  newest.href = historyUrl({ ...query, after: "" });
  older.hidden = next === null;
  older.href = historyUrl({ ...query, after: next ?? "" });
}

function describeEmptiness() {
  if (query.after !== "") return "There are no older runs.";
  if (!hasFilter(query)) return "No run has ended yet. Ended and deleted runs are listed here.";
  return query.inner ? "No run matches." : "No run matches. Inner bars that have not failed are hidden.";
}

/** @param {unknown} error */
function showProblem(error) {
  if (error instanceof ResponseError && error.status === 401) return location.reload(); // to the sign-in page, and back
  const text = error instanceof ResponseError ? `The runs cannot be shown: ${error.message}` : "The server cannot be reached.";
  problem.replaceChildren(`${text} `, createElement("button", { type: "button", class: "secondary", click: () => void load() }, "Try again"));
  problem.hidden = false;
}

/** Shows the query in the form and in the links. */
function showQuery() {
  for (const name of /** @type {const} */ (["q", "group", "status", "id"])) {
    if (field(name) !== document.activeElement) field(name).value = query[name];
  }
  field("inner").checked = query.inner;
  const parent = /** @type {HTMLAnchorElement} */ (requireElement("parent").querySelector("a"));
  requireElement("parent").hidden = query.parent === "";
  parent.href = itemPageUrl(query.parent);
  setText(/** @type {Element} */ (parent.firstElementChild), query.parent);
  requireElement("show-all").hidden = !hasFilter(query);
  for (const type of ["csv", "json"]) {
    const url = new URL(`api/v1/history.${type}`, ROOT);
    for (const [name, value] of Object.entries(buildRequestQuery(query))) url.searchParams.set(name, value);
    /** @type {HTMLAnchorElement} */ (requireElement(`export-${type}`)).href = url.href;
  }
  setText(requireElement("export-scope"), hasFilter(query) || !query.inner ? "These runs:" : "All runs:");
}

/** @param {HistoryQuery} target */
function historyUrl(target) {
  return `${location.pathname}${buildSearch(target)}`;
}

/**
 * Shows another query.
 *
 * @param {HistoryQuery} target
 * @param {{ isTyped?: boolean }} [options] `isTyped`: from a text field, so that a word is one entry of the browser's history
 */
function open(target, { isTyped = false } = {}) {
  clearTimeout(typingTimer);
  if (buildSearch(target) === buildSearch(query)) return;
  query = target;
  if (isTyped && wasTyped) history.replaceState(null, "", historyUrl(query));
  else history.pushState(null, "", historyUrl(query));
  wasTyped = isTyped;
  showQuery();
  void load();
}

function applyForm(isTyped = false) {
  const texts = { q: field("q").value, group: field("group").value, status: field("status").value, id: field("id").value };
  open({ ...query, ...texts, inner: field("inner").checked, after: "" }, { isTyped });
}

form.addEventListener("input", (event) => {
  clearTimeout(typingTimer);
  const isText = event.target instanceof HTMLInputElement && event.target.type !== "checkbox";
  if (isText) typingTimer = setTimeout(() => applyForm(true), TYPING_DELAY);
  else applyForm();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  applyForm();
});
form.addEventListener("reset", (event) => {
  event.preventDefault();
  open(parseQuery(""));
  for (const name of ["q", "group", "status", "id"]) field(name).value = "";
});
for (const link of [newest, older]) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    open(parseQuery(link.search));
    requireElement("main").scrollIntoView();
  });
}
// A reader who comes back sees the runs that have ended meanwhile.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && query.after === "") void load({ isQuiet: true });
});
addEventListener("popstate", () => {
  wasTyped = false;
  query = parseQuery(location.search);
  showQuery();
  void load();
});
showQuery();
void load();
