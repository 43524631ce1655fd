// The board: keeps the first paint up to date with the event stream. Item texts are set through textContent only.

import { ICONS, formatDuration, formatInstant, formatPercent, formatTimeOfDay, itemUrl, stateOf, titleOf } from "./format.js";
import { offerFirstKey } from "./onboarding.js";
import { reorderChildren } from "./reorder.js";
import { Row, mayDismiss } from "./row.js";
import { arrangeItems, mayReorder, mayReorderByProgress, summarize, summaryText } from "./sort.js";
import { subscribe } from "./stream.js";
import { updateTab } from "./tab_title.js";

const MAX_RECENT_RUNS = 8;
const MAX_ANNOUNCED = 3;
const MAX_BATCH_OPS = 500;
const MAX_FOLDED_GROUPS = 1000;
const UNDO_TIMEOUT = 6000;
const REORDER_DELAY = 5000;
const FOLDED_STORAGE_KEY = "progress-folded";

const $ = (id) => document.getElementById(id);
const board = $("board");
const form = $("query");

const items = new Map();
const rows = new Map(Array.from(board.querySelectorAll(".item"), (node) => [node.dataset.id, new Row(node)]));
const sections = new Map(Array.from(board.children, (node) => [node.dataset.group, createSection(node)]));
const dismissed = new Map(); // ids to runs that are hidden, and deleted when the time to undo is over
let query = readQuery();
let clockOffset = 0; // the server's clock minus the browser's, in milliseconds
let offlineSince = null; // the time of the last update while the connection is lost
let isLive = false; // whether a snapshot has replaced the first paint
let isShowingKey = false; // whether a new key is shown, so that the empty board stays
let recentRuns = [];
let undoTimer;
let reorderTimer; // rows that overtake each other move once in a while

// The query of the reader

function readQuery() {
  const parameters = new URLSearchParams(location.search);
  const value = (name) => {
    const field = form.elements[name];
    field.value = parameters.get(name) ?? "";
    if (field.value === "" && field.tagName === "SELECT") field.selectedIndex = 0;
    return field.value;
  };
  return { q: value("q").trim(), status: value("status"), sort: value("sort") };
}

function applyQuery() {
  const next = { q: form.elements.q.value.trim(), status: form.elements.status.value, sort: form.elements.sort.value };
  if (next.q === query.q && next.status === query.status && next.sort === query.sort) return;
  query = next;
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  history.replaceState(null, "", text === "" ? location.pathname : `?${text}`);
  if (isLive) arrangeBoard();
}

// Rows and sections

function visibleItems() {
  return Array.from(items.values()).filter((item) => !dismissed.has(item.id));
}

// Returns whether the board has to be arranged.
function updateItem(item) {
  const before = items.get(item.id);
  items.set(item.id, item);
  if (dismissed.has(item.id) && dismissed.get(item.id) !== item.run_id) dismissed.delete(item.id);
  let row = rows.get(item.id);
  if (row === undefined) rows.set(item.id, (row = new Row()));
  row.update(item, before !== undefined && before.updated_at !== item.updated_at);
  row.updateAges(currentTime());
  if (before === undefined) return true;
  if (mayReorderByProgress(before, item, query)) reorderTimer ??= setTimeout(arrangeBoard, REORDER_DELAY);
  return mayReorder(before, item, query);
}

function removeItem(id) {
  items.delete(id);
  dismissed.delete(id);
  rows.get(id)?.node.remove();
  return rows.delete(id);
}

function createSection(existing) {
  const node = existing ?? document.importNode($("section-template").content.firstElementChild, true);
  const part = (name) => node.querySelector(`summary [data-part=${name}]`);
  return { node, list: node.querySelector("ul"), group: part("group"), summary: part("summary"), progress: part("progress"),
    percent: part("percent"), ids: [] };
}

function arrangeBoard() {
  clearTimeout(reorderTimer);
  reorderTimer = undefined;
  const arranged = arrangeItems(visibleItems(), query);
  const focused = document.activeElement;
  const nodes = [];
  for (const { group, rows: arrangedRows } of arranged) {
    let section = sections.get(group);
    if (section === undefined) {
      sections.set(group, (section = createSection()));
      section.node.dataset.group = group;
      const name = group || "Without a group";
      section.group.firstElementChild.textContent = name;
      section.progress.setAttribute("aria-label", `${name}: mean of the running items`);
      section.node.open = !readFoldedGroups().includes(group);
    }
    section.node.classList.toggle("no-header", arranged.length === 1 && group === "");
    section.ids = arrangedRows.map(({ item }) => item.id);
    nodes.push(section.node);
    reorderChildren(section.list, arrangedRows.map(({ item, depth }) => {
      const row = rows.get(item.id);
      row.depth = depth;
      return row.node;
    }));
  }
  reorderChildren(board, nodes);
  for (const [group, { node }] of sections) if (node.parentNode === null) sections.delete(group);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  $("no-match").hidden = arranged.length > 0 || items.size === 0;
  updateEmptyState();
  $("waiting").hidden = items.size > 0;
  form.hidden = items.size === 0;
}

function updateEmptyState() {
  $("empty").hidden = items.size > 0 && !isShowingKey;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function updateSummaries() {
  for (const section of sections.values()) {
    const summary = summarize(section.ids.map((id) => items.get(id)).filter((item) => item !== undefined));
    const { meanValue } = summary;
    setText(section.summary, summaryText(summary));
    setText(section.percent, meanValue === null ? "" : formatPercent(meanValue));
    section.progress.hidden = meanValue === null;
    if (meanValue !== null && section.progress.value !== meanValue) section.progress.value = meanValue;
  }
  const summary = summarize(items.values());
  setText($("summary"), items.size === 0 ? "" : summaryText(summary));
  updateTab(summary, offlineSince !== null);
}

function arrangeAndSummarize() {
  arrangeBoard();
  updateSummaries();
}

// Messages of the stream

function handleMessage(message) {
  if (message.type === "signed-out") return location.reload(); // the server redirects to the sign-in page
  if (message.type === "offline") return showOffline(message.time);
  if (message.type === "online") return;
  clockOffset = Date.parse(message.time) - Date.now();
  if (offlineSince !== null) showOnline();
  if (message.type === "snapshot") applySnapshot(message);
  else if (message.type === "change") applyChange(message);
}

function applySnapshot({ items: newItems }) {
  const ended = [];
  const ids = new Set(newItems.map((item) => item.id));
  let hasRemoved = false;
  for (const id of [...rows.keys()]) if (!ids.has(id)) hasRemoved = removeItem(id) || hasRemoved;
  for (const item of newItems) {
    collectStateChange(ended, item);
    updateItem(item);
  }
  arrangeAndSummarize();
  announceStates(ended);
  if (hasRemoved || isLive) fetchRecentRuns();
  isLive = true;
  $("omitted")?.remove();
  document.documentElement.dataset.live = "";
}

function applyChange({ items: changedItems, gone, ended: endedRuns }) {
  const ended = [];
  let mustArrange = false;
  for (const run of endedRuns) {
    const before = items.get(run.id);
    if (before !== undefined && before.run_id === run.run_id && before.status === "running" && run.status !== "deleted") {
      ended.push([titleOf(run), run.status]);
    }
  }
  for (const id of gone) mustArrange = removeItem(id) || mustArrange;
  for (const item of changedItems) {
    collectStateChange(ended, item);
    mustArrange = updateItem(item) || mustArrange;
  }
  if (mustArrange) arrangeBoard();
  updateSummaries();
  if (endedRuns.length > 0) showRuns(endedRuns.toReversed().concat(recentRuns));
  announceStates(ended);
}

function collectStateChange(changes, item) {
  const before = items.get(item.id);
  if (before === undefined || before.run_id !== item.run_id) return;
  const state = stateOf(item);
  if (state !== stateOf(before) && state !== "running") changes.push([titleOf(item), state]);
}

// Announces once per tick and only a few titles, so that a screen reader can keep up.
function announceStates(changes) {
  if (changes.length === 0) return;
  const parts = changes.slice(0, MAX_ANNOUNCED).map(([title, state]) => `${title}: ${state}`);
  if (changes.length > MAX_ANNOUNCED) parts.push(`and ${changes.length - MAX_ANNOUNCED} more`);
  announce(parts.join(". "));
}

function announce(text) {
  $("announcement").textContent = text;
}

function showOffline(time) {
  offlineSince = time === null ? Date.now() : Date.parse(time);
  document.body.classList.add("offline");
  $("offline").textContent = `No connection to the server. This is as of ${formatTimeOfDay(offlineSince)}. Trying again…`;
  $("offline").hidden = false;
  announce("No connection to the server");
  updateTab(summarize(items.values()), true);
}

function showOnline() {
  offlineSince = null;
  document.body.classList.remove("offline");
  $("offline").hidden = true;
  announce("The connection is back");
}

function currentTime() {
  return offlineSince ?? Date.now() + clockOffset;
}

function updateAges() {
  if (offlineSince !== null || !isLive) return;
  const now = currentTime();
  for (const row of rows.values()) if (row.item !== null) row.updateAges(now);
}

// Recently ended runs

function showRuns(runs) {
  recentRuns = runs.slice(0, MAX_RECENT_RUNS);
  $("recent").hidden = recentRuns.length === 0;
  $("runs").replaceChildren(...recentRuns.map(createRunNode));
}

function createRunNode(run) {
  const node = document.importNode($("run-template").content.firstElementChild, true);
  const part = (name) => node.querySelector(`[data-part=${name}]`);
  node.className = `run ${run.status}`;
  part("icon").textContent = ICONS[run.status];
  part("link").href = itemUrl(run.id);
  part("title").textContent = titleOf(run);
  part("state").textContent = run.status;
  part("duration").textContent = `after ${formatDuration(Math.max(Date.parse(run.ended_at) - Date.parse(run.created_at), 0) / 1000)}`;
  part("ended").textContent = formatTimeOfDay(run.ended_at);
  part("ended").dateTime = run.ended_at;
  part("ended").title = formatInstant(run.ended_at);
  part("failure").hidden = !run.error;
  part("reason").textContent = (run.error ?? "").split("\n", 1)[0];
  part("error").textContent = run.error ?? "";
  return node;
}

async function fetchRecentRuns() {
  try {
    const response = await fetch(`api/v1/history?limit=${MAX_RECENT_RUNS}`, { signal: AbortSignal.timeout(10000) });
    if (response.ok) showRuns((await response.json()).items);
  } catch {
    // The stream reports the lost connection, and the runs are fetched again after the next snapshot.
  }
}

// Dismissing

function dismiss(id, byKeyboard) {
  const item = items.get(id);
  if (item === undefined || !mayDismiss(item)) return;
  dismissed.set(id, item.run_id);
  arrangeAndSummarize();
  offerUndo();
  if (byKeyboard) $("undo").querySelector("button").focus();
}

function offerUndo() {
  const titles = Array.from(dismissed.keys(), (id) => titleOf(items.get(id)));
  showToast(titles.length === 1 ? `Dismissed ${titles[0]}.` : `Dismissed ${titles.length} items.`, true);
  clearTimeout(undoTimer);
  undoTimer = setTimeout(deleteDismissed, UNDO_TIMEOUT);
}

function showToast(text, hasUndo) {
  const [label, button] = $("undo").children;
  label.textContent = text;
  button.hidden = !hasUndo;
  $("undo").hidden = false;
  announce(text);
}

function closeToast() {
  clearTimeout(undoTimer);
  if ($("undo").contains(document.activeElement)) $("main").focus({ preventScroll: true });
  $("undo").hidden = true;
}

function undoDismissals() {
  dismissed.clear();
  closeToast();
  arrangeAndSummarize();
}

// Sends the run's id along, so that a newer run is not deleted.
async function deleteDismissed(keepalive = false) {
  const ops = Array.from(dismissed, ([id, run_id]) => ({ op: "delete", id, run_id }));
  closeToast();
  for (let n = 0; n < ops.length; n += MAX_BATCH_OPS) await sendDeletes(ops.slice(n, n + MAX_BATCH_OPS), keepalive === true);
}

async function sendDeletes(ops, keepalive) {
  let failedIds = [];
  try {
    const response = await fetch("api/v1/items:batch", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ops }),
      keepalive,
    });
    if (!response.ok) throw new Error(`${response.status}`);
    // 404 and 409 are no failures: the item is gone, or belongs to another run now.
    const { results } = await response.json();
    failedIds = results.filter(({ status }) => ![200, 404, 409].includes(status)).map(({ id }) => id);
  } catch {
    failedIds = ops.map(({ id }) => id);
  }
  const restored = failedIds.filter((id) => dismissed.delete(id));
  if (restored.length === 0) return;
  arrangeAndSummarize();
  showToast(`${restored.length === 1 ? "One item" : `${restored.length} items`} could not be dismissed.`, false);
  undoTimer = setTimeout(closeToast, UNDO_TIMEOUT);
}

// Folding

function readFoldedGroups() {
  try {
    const groups = JSON.parse(localStorage.getItem(FOLDED_STORAGE_KEY) ?? "[]");
    return Array.isArray(groups) ? groups : [];
  } catch {
    return [];
  }
}

function saveFoldedGroup({ target }) {
  const group = target.dataset?.group;
  if (group === undefined || target.open !== readFoldedGroups().includes(group)) return;
  const others = readFoldedGroups().filter((other) => other !== group);
  try {
    localStorage.setItem(FOLDED_STORAGE_KEY, JSON.stringify(target.open ? others : [...others, group].slice(-MAX_FOLDED_GROUPS)));
  } catch {
    // Without storage, a group stays folded while the page is open.
  }
}

for (const [group, { node }] of sections) if (readFoldedGroups().includes(group)) node.open = false;
board.addEventListener("toggle", saveFoldedGroup, true); // toggle does not bubble
board.addEventListener("click", (event) => {
  const button = event.target.closest(".dismiss");
  if (button !== null) dismiss(button.closest(".item").dataset.id, event.detail === 0);
});
board.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
  const row = rows.get(target.dataset.id);
  if (row === undefined) return;
  row.skipped = skipped;
  if (!skipped) row.drawRates();
});
$("undo").querySelector("button").addEventListener("click", undoDismissals);
addEventListener("pagehide", () => deleteDismissed(true));
form.addEventListener("input", applyQuery);
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("popstate", () => {
  query = readQuery();
  if (isLive) arrangeBoard();
});
if (board.hasAttribute("data-admin")) {
  offerFirstKey((isPaused) => {
    isShowingKey = isPaused;
    updateEmptyState();
  });
}
setInterval(updateAges, 1000);
fetchRecentRuns();
subscribe(handleMessage);

export { handleMessage }; // for the benchmark of the page
