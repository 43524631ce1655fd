// The board: keeps the first paint up to date with what the stream says. Texts reach the page through textContent only.

import { arrange, drifts, moves, sum, told } from "./arrange.js";
import { offerKey } from "./beginning.js";
import { inOrder } from "./order.js";
import { Row, dismissible } from "./row.js";
import { subscribe } from "./stream.js";
import { tell } from "./title.js";
import { ICONS, duration, exactly, nameOf, pageOf, percent, stateOf, timeOfDay } from "./words.js";

const RECENT = 8;
const UNDO = 6000;
const CALM = 5000;
const NAMED = 3;
const FOLDED = "progress-folded";

const $ = (id) => document.getElementById(id);
const board = $("board");
const runs = $("runs");
const form = $("view");
const operator = board.hasAttribute("data-operator");

const items = new Map();
const rows = new Map(Array.from(board.querySelectorAll(".item"), (node) => [node.dataset.id, new Row(node)]));
const sections = new Map(Array.from(board.children, (node) => [node.dataset.group, section(node)]));
const dismissed = new Map(); // ids to runs: hidden, and deleted when the time for undoing is over
let view = asked();
let offset = 0; // of the server's clock from ours
let stopped = null; // the instant as of which everything is, while the connection is lost
let known = false;
let kept = true; // a key that was made has been seen
let undoing;
let drifting; // rows that overtake each other change places now and then, and not all the time

// What the reader asks for

function asked() {
  const query = new URLSearchParams(location.search);
  const value = (name) => {
    const field = form.elements[name];
    field.value = query.get(name) ?? "";
    if (field.value === "" && field.tagName === "SELECT") field.selectedIndex = 0;
    return field.value;
  };
  return { q: value("q").trim(), status: value("status"), sort: value("sort") };
}

function look() {
  const next = { q: form.elements.q.value.trim(), status: form.elements.status.value, sort: form.elements.sort.value };
  if (next.q === view.q && next.status === view.status && next.sort === view.sort) return;
  view = next;
  const query = new URLSearchParams(Object.entries(view).filter(([, value]) => value !== ""));
  const text = query.toString();
  history.replaceState(null, "", text === "" ? location.pathname : `?${text}`);
  if (known) place();
}

// What is there

function present() {
  return Array.from(items.values()).filter((item) => !dismissed.has(item.id));
}

function shift(item) {
  const before = items.get(item.id);
  items.set(item.id, item);
  if (dismissed.has(item.id) && dismissed.get(item.id) !== item.run_id) dismissed.delete(item.id);
  let row = rows.get(item.id);
  if (row === undefined) rows.set(item.id, (row = new Row()));
  row.show(item, before !== undefined && before.updated_at !== item.updated_at);
  row.pass(now());
  if (before === undefined) return true;
  if (drifts(before, item, view)) drifting ??= setTimeout(place, CALM);
  return moves(before, item, view);
}

function forget(id) {
  items.delete(id);
  dismissed.delete(id);
  rows.get(id)?.node.remove();
  return rows.delete(id);
}

function section(given) {
  const node = given ?? document.importNode($("section").content.firstElementChild, true);
  const part = (name) => node.querySelector(`summary [data-part=${name}]`);
  return { node, list: node.querySelector("ul"), group: part("group"), told: part("told"), share: part("share"),
    percent: part("percent"), items: [] };
}

function place() {
  clearTimeout(drifting);
  drifting = undefined;
  const arranged = arrange(present(), view);
  const focused = document.activeElement;
  const nodes = [];
  for (const { group, rows: found } of arranged) {
    let one = sections.get(group);
    if (one === undefined) {
      sections.set(group, (one = section()));
      one.node.dataset.group = group;
      const name = group || "Without a group";
      one.group.firstElementChild.textContent = name;
      one.share.setAttribute("aria-label", `${name}: the mean of what runs`);
      one.node.open = !folded().includes(group);
    }
    one.node.classList.toggle("alone", arranged.length === 1 && group === "");
    one.items = found.map(({ item }) => item.id);
    nodes.push(one.node);
    inOrder(one.list, found.map(({ item, depth }) => {
      const row = rows.get(item.id);
      row.depth = depth;
      return row.node;
    }));
  }
  inOrder(board, nodes);
  for (const [group, { node }] of sections) if (node.parentNode === null) sections.delete(group);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  $("nothing").hidden = arranged.length > 0 || items.size === 0;
  $("empty").hidden = items.size > 0 && kept;
  $("waiting").hidden = items.size > 0;
  form.hidden = items.size === 0;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function summarise() {
  for (const one of sections.values()) {
    const found = sum(one.items.map((id) => items.get(id)).filter((item) => item !== undefined));
    write(one.told, told(found));
    write(one.percent, found.share === null ? "" : percent(found.share));
    one.share.hidden = found.share === null;
    if (found.share !== null && one.share.value !== found.share) one.share.value = found.share;
  }
  const all = sum(items.values());
  write($("summary"), items.size === 0 ? "" : told(all));
  tell(all, stopped !== null);
}

// What the stream says

function hear(message) {
  if (message.type === "signed-out") return location.reload(); // the server sends the browser on to the sign-in page
  if (message.type === "offline") return lose(message.time);
  if (message.type === "online") return;
  offset = Date.parse(message.time) - Date.now();
  if (stopped !== null) find();
  if (message.type === "snapshot") snapshot(message);
  else if (message.type === "change") change(message);
}

function snapshot({ items: found }) {
  const news = [];
  const ids = new Set(found.map((item) => item.id));
  let gone = false;
  for (const id of [...rows.keys()]) if (!ids.has(id)) gone = forget(id) || gone;
  for (const item of found) {
    notice(news, item);
    shift(item);
  }
  place();
  summarise();
  announce(news);
  if (gone || known) remember();
  known = true;
  $("more")?.remove();
  document.documentElement.dataset.live = ""; // the first paint is the script's from here on
}

function change({ items: found, gone, ended }) {
  const news = [];
  let moved = false;
  for (const run of ended) {
    const before = items.get(run.id);
    if (before !== undefined && before.run_id === run.run_id && before.status === "running" && run.status !== "deleted") {
      news.push([nameOf(run), run.status]);
    }
  }
  for (const id of gone) moved = forget(id) || moved;
  for (const item of found) {
    notice(news, item);
    moved = shift(item) || moved;
  }
  if (moved) place();
  summarise();
  if (ended.length > 0) showRuns(ended.toReversed().concat(recent));
  announce(news);
}

function notice(news, item) {
  const before = items.get(item.id);
  if (before === undefined || before.run_id !== item.run_id) return;
  const state = stateOf(item);
  if (state !== stateOf(before) && state !== "running") news.push([nameOf(item), state]);
}

// Once for all that a tick brings, or a screen reader would never come to an end.
function announce(news) {
  if (news.length === 0) return;
  const named = news.slice(0, NAMED).map(([title, state]) => `${title}: ${state}`);
  if (news.length > NAMED) named.push(`and ${news.length - NAMED} more`);
  say(named.join(". "));
}

function say(text) {
  $("news").textContent = text;
}

function lose(time) {
  stopped = time === null ? Date.now() : Date.parse(time);
  document.body.classList.add("offline");
  $("offline").textContent = `No connection to the server. This is as of ${timeOfDay(stopped)}. Trying again…`;
  $("offline").hidden = false;
  say("No connection to the server");
  tell(sum(items.values()), true);
}

function find() {
  stopped = null;
  document.body.classList.remove("offline");
  $("offline").hidden = true;
  say("The connection is back");
}

function now() {
  return stopped ?? Date.now() + offset;
}

function pass() {
  if (stopped !== null || !known) return;
  const instant = now();
  for (const row of rows.values()) if (row.item !== null) row.pass(instant);
}

// What has ended

let recent = [];

function showRuns(found) {
  recent = found.slice(0, RECENT);
  $("recent").hidden = recent.length === 0;
  runs.replaceChildren(...recent.map(runNode));
}

function runNode(run) {
  const node = document.importNode($("run").content.firstElementChild, true);
  const part = (name) => node.querySelector(`[data-part=${name}]`);
  node.className = `run ${run.status}`;
  part("icon").textContent = ICONS[run.status];
  part("link").href = pageOf(run.id);
  part("title").textContent = nameOf(run);
  part("word").textContent = run.status;
  part("took").textContent = `after ${duration(Math.max(Date.parse(run.ended_at) - Date.parse(run.created_at), 0) / 1000)}`;
  part("ended").textContent = timeOfDay(run.ended_at);
  part("ended").dateTime = run.ended_at;
  part("ended").title = exactly(run.ended_at);
  part("failure").hidden = !run.error;
  part("reason").textContent = (run.error ?? "").split("\n", 1)[0];
  part("error").textContent = run.error ?? "";
  return node;
}

async function remember() {
  try {
    const reply = await fetch(`api/v1/history?limit=${RECENT}`, { signal: AbortSignal.timeout(10000) });
    if (reply.ok) showRuns((await reply.json()).items);
  } catch {
    // The stream says that the connection is lost, and this is asked again when it is back.
  }
}

// Dismissing

function dismiss(id, byKeyboard) {
  const item = items.get(id);
  if (item === undefined || !dismissible(item)) return;
  dismissed.set(id, item.run_id);
  place();
  summarise();
  offerUndo();
  if (byKeyboard) $("undo").querySelector("button").focus();
}

function offerUndo() {
  const titles = Array.from(dismissed.keys(), (id) => nameOf(items.get(id)));
  toast(titles.length === 1 ? `Dismissed ${titles[0]}.` : `Dismissed ${titles.length} items.`, true);
  clearTimeout(undoing);
  undoing = setTimeout(settle, UNDO);
}

function toast(text, undo) {
  const [words, button] = $("undo").children;
  words.textContent = text;
  button.hidden = !undo;
  $("undo").hidden = false;
  say(text);
}

function closeToast() {
  clearTimeout(undoing);
  if ($("undo").contains(document.activeElement)) $("main").focus({ preventScroll: true });
  $("undo").hidden = true;
}

function undo() {
  dismissed.clear();
  closeToast();
  place();
  summarise();
}

// Deletes what was dismissed. The run's id keeps a run that has begun since.
async function settle(keepalive = false) {
  const ops = Array.from(dismissed, ([id, run_id]) => ({ op: "delete", id, run_id }));
  closeToast();
  for (let n = 0; n < ops.length; n += 500) await remove(ops.slice(n, n + 500), keepalive === true);
}

async function remove(ops, keepalive) {
  let left = [];
  try {
    const reply = await fetch("api/v1/items:batch", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ops }),
      keepalive,
    });
    if (!reply.ok) throw new Error(`${reply.status}`);
    // An item that is gone, or is another run's by now, is none that failed to go.
    left = (await reply.json()).results.filter(({ status }) => ![200, 404, 409].includes(status)).map(({ id }) => id);
  } catch {
    left = ops.map(({ id }) => id);
  }
  const failed = left.filter((id) => dismissed.delete(id));
  if (failed.length === 0) return;
  place();
  summarise();
  toast(`${failed.length === 1 ? "One item" : `${failed.length} items`} could not be dismissed.`, false);
  undoing = setTimeout(closeToast, UNDO);
}

// Folding

function folded() {
  try {
    const kept = JSON.parse(localStorage.getItem(FOLDED) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

function fold({ target }) {
  const group = target.dataset?.group;
  if (group === undefined || target.open !== folded().includes(group)) return;
  const others = folded().filter((other) => other !== group);
  try {
    localStorage.setItem(FOLDED, JSON.stringify(target.open ? others : [...others, group].slice(-1000)));
  } catch {
    // A browser that keeps nothing folds for as long as the page is open.
  }
}

for (const [group, { node }] of sections) if (folded().includes(group)) node.open = false;
board.addEventListener("toggle", fold, true); // it does not bubble
board.addEventListener("click", (event) => {
  const button = event.target.closest(".dismiss");
  if (button !== null) dismiss(button.closest(".item").dataset.id, event.detail === 0);
});
board.addEventListener("contentvisibilityautostatechange", ({ target, skipped }) => {
  const row = rows.get(target.dataset.id);
  if (row === undefined) return;
  row.skipped = skipped;
  if (!skipped) row.draw();
});
$("undo").querySelector("button").addEventListener("click", undo);
addEventListener("pagehide", () => settle(true));
form.addEventListener("input", look);
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("popstate", () => {
  view = asked();
  if (known) place();
});
if (operator) {
  offerKey((held) => {
    kept = !held;
    $("empty").hidden = items.size > 0 && kept;
  });
}
setInterval(pass, 1000);
remember();
subscribe(hear);

// For the benchmark of the page.
export { hear };
