// The pages of the handbook: buttons that copy code, and the search.

import { createCopyButton } from "./clipboard.js";
import { createElement, requireElement, setText } from "./dom.js";
import { searchPages } from "./handbook_search.js";

/** @typedef {import("./handbook_search.js").IndexPage} IndexPage */
/** @typedef {import("./handbook_search.js").Result} Result */

const SHELL_LANGUAGES = new Set(["sh", "console"]);
const TEXT_LANGUAGE = "text"; // output, which has no copy button

const form = /** @type {HTMLFormElement} */ (requireElement("handbook-search"));
const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("q"));
const list = requireElement("search-results");
const status = requireElement("search-status");
const content = /** @type {HTMLElement} */ (document.querySelector(".handbook"));

/** @type {Promise<IndexPage[]> | undefined} */
let index;

/** @returns {Promise<IndexPage[]>} */
function loadIndex() {
  index ??= fetch(`${form.action}/search.json`).then((response) => {
    if (!response.ok) throw new Error(response.statusText);
    return response.json();
  });
  index.catch(() => (index = undefined)); // the next key tries again
  return index;
}

async function showResults() {
  const query = field.value.trim();
  if (query === "") {
    clearResults();
    return;
  }
  try {
    const pages = await loadIndex();
    if (query !== field.value.trim()) return; // the reader has typed on
    const results = searchPages(pages, query);
    const heading = createElement("h1", {}, results.length === 0 ? `Nothing contains “${query}”` : `Results for “${query}”`);
    list.replaceChildren(heading, createList(results));
    setText(status, results.length === 1 ? "1 result" : `${results.length} results`);
  } catch {
    list.replaceChildren(createElement("h1", {}, "The search needs the server, which does not answer"));
    setText(status, "The server does not answer");
  }
  list.hidden = false;
  content.hidden = true;
}

function clearResults() {
  list.hidden = true;
  content.hidden = false;
  list.replaceChildren();
  setText(status, "");
}

/** @param {Result[]} results */
function createList(results) {
  return createElement("ol", {}, ...results.map(({ path, title, heading, anchor, excerpt }) =>
    createElement("li", {},
      createElement("a", { href: `${form.action}/${path}${anchor === "" ? "" : `#${anchor}`}`, click: clearResults }, heading),
      heading !== title && createElement("span", { class: "muted" }, ` ${title}`),
      createElement("p", { class: "muted" }, excerpt))));
}

/** @param {KeyboardEvent} event */
function handleKey(event) {
  const target = event.target instanceof Element ? event.target : null;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "/" && target?.closest("input, textarea") == null) {
    event.preventDefault();
    field.focus();
    field.select();
  } else if (event.key === "Escape" && !list.hidden) {
    field.value = "";
    clearResults();
    field.focus();
  }
}

/** @param {SubmitEvent} event */
async function openFirst(event) {
  event.preventDefault();
  await showResults();
  list.querySelector("a")?.click();
}

/** @param {HTMLElement} figure */
function addCopyButton(figure) {
  const language = figure.dataset.language ?? "";
  const box = /** @type {HTMLElement} */ (figure.querySelector("pre"));
  if (language === TEXT_LANGUAGE || language === "") return;
  const getText = () => {
    const text = box.textContent ?? "";
    return SHELL_LANGUAGES.has(language) ? text.replace(/^\$ /gm, "") : text;
  };
  figure.append(createCopyButton("Copy", getText, () => getSelection()?.selectAllChildren(box)));
}

// Scrolls the list of pages, and not the page, to the current one.
function showCurrentPage() {
  const list = document.querySelector(".handbook-pages");
  const current = list?.querySelector("[aria-current]");
  if (list == null || current == null) return;
  list.scrollTop += current.getBoundingClientRect().top - list.getBoundingClientRect().top - list.clientHeight / 2;
}

for (const figure of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("figure.code"))) addCopyButton(figure);
showCurrentPage();
field.addEventListener("input", showResults);
field.addEventListener("focus", () => loadIndex().catch(() => {}));
form.addEventListener("submit", openFirst);
document.addEventListener("keydown", handleKey);
const requested = new URLSearchParams(location.search).get("q");
if (requested !== null) {
  field.value = requested;
  showResults();
}
