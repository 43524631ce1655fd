// Keeps the first paint up to date: asks for the list every second, and changes the nodes of what has changed.
// Texts reach the page through textContent only. The words are those of view.py.

const ICONS = { running: "▶", stalled: "!", succeeded: "✓", failed: "✕", stopped: "■", deleted: "∅" };
const EVERY = 1000;
const SLOWEST = 10000;

const list = document.getElementById("items");
const runs = document.getElementById("runs");
const nodes = new Map(Array.from(list.children, (node) => [node.dataset.id, node]));
const states = new Map(Array.from(list.children, (node) => [node.dataset.id, node.classList[1]]));
let etag = "";
let delay = EVERY;

function number(value) {
  if (Math.abs(value) >= 1e15) return value.toPrecision(3);
  const digits = Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function duration(seconds) {
  const floor = Math.floor;
  if (seconds < 60) return `${floor(seconds)} s`;
  if (seconds < 3600) return `${floor(seconds / 60)} min ${floor(seconds % 60)} s`;
  if (seconds < 86400) return `${floor(seconds / 3600)} h ${floor((seconds % 3600) / 60)} min`;
  return seconds < 1e9 ? `${floor(seconds / 86400)} d ${floor((seconds % 86400) / 3600)} h` : "ages";
}

function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function blank(id) {
  const bar = element("progress", "");
  bar.max = 1;
  const icon = element("span", "icon");
  icon.setAttribute("aria-hidden", "true");
  const node = element("li", "item",
    element("div", "line",
      element("h2", "", element("bdi", "title")),
      element("span", "state", icon, " ", element("span", "word"))),
    bar,
    element("div", "line facts", ...["percent", "count", "rate", "eta"].map((name) => element("span", name)),
      element("bdi", "group")),
    element("p", "description", element("bdi", "")),
    element("p", "error", element("bdi", "")));
  node.dataset.id = id;
  return node;
}

function write(node, selector, text) {
  const target = node.querySelector(selector);
  if (target.textContent !== text) target.textContent = text;
}

function show(node, item) {
  const state = item.stalled ? "stalled" : item.status;
  const going = item.status === "running";
  const open = going && item.completed !== null && item.total === null;
  const title = item.title || item.id;
  node.className = `item ${state}`;
  const bar = node.querySelector("progress");
  bar.setAttribute("aria-label", title);
  if (open) bar.removeAttribute("value");
  else if (bar.value !== item.value || !bar.hasAttribute("value")) bar.value = item.value;
  const of = item.total === null ? "" : ` / ${number(item.total)}`;
  write(node, ".title", title);
  write(node, ".icon", ICONS[state]);
  write(node, ".word", state);
  write(node, ".percent", open ? "" : `${Math.floor(item.value * 100)} %`);
  write(node, ".count", item.completed === null ? "" : `${number(item.completed)}${of} ${item.unit}`.trimEnd());
  write(node, ".rate", item.rate === null ? "" : `${number(item.rate)} ${item.unit || "it"}/s`);
  write(node, ".eta", item.eta === null ? "" : `${duration(item.eta)} left`);
  write(node, ".group", item.group ?? "");
  write(node, ".description bdi", item.description);
  write(node, ".error bdi", item.error ?? "");
  return [title, state];
}

function render(items) {
  const news = [];
  const seen = new Set();
  let place = list.firstElementChild;
  for (const item of items) {
    seen.add(item.id);
    let node = nodes.get(item.id);
    if (node === undefined) nodes.set(item.id, (node = blank(item.id)));
    const [title, state] = show(node, item);
    if (states.has(item.id) && states.get(item.id) !== state && state !== "running") news.push(`${title}: ${state}`);
    states.set(item.id, state);
    if (node === place) place = place.nextElementSibling;
    else list.insertBefore(node, place);
  }
  for (const [id, node] of nodes) {
    if (seen.has(id)) continue;
    node.remove();
    nodes.delete(id);
    states.delete(id);
  }
  document.getElementById("empty").hidden = items.length > 0;
  if (news.length > 0) document.getElementById("news").textContent = news.join(". ");
  summarise(items);
}

function summarise(items) {
  const going = items.filter((item) => item.status === "running");
  const mean = going.reduce((sum, item) => sum + item.value, 0) / (going.length || 1);
  document.getElementById("summary").textContent = `${going.length} running, ${items.length} listed`;
  document.title = going.length > 0 ? `${Math.floor(mean * 100)} % - ${going.length} running` : "Progress";
}

function renderRuns(ended) {
  document.getElementById("recent").hidden = ended.length === 0;
  runs.replaceChildren(...ended.map((run) => {
    const time = element("time", "", new Date(run.ended_at).toLocaleString());
    time.dateTime = run.ended_at;
    const icon = element("span", "icon", ICONS[run.status]);
    icon.setAttribute("aria-hidden", "true");
    return element("li", `run ${run.status}`, icon, element("bdi", "title", run.title || run.id),
      element("span", "word", run.status), time, element("bdi", "error", run.error ?? ""));
  }));
}

async function ask(path, headers = {}) {
  const reply = await fetch(path, { headers, signal: AbortSignal.timeout(10000) });
  // The session is over: the server sends whoever reloads to the sign-in page.
  if (reply.status === 401) location.reload();
  if (!reply.ok && reply.status !== 304) throw new Error(`${path}: ${reply.status}`);
  return reply;
}

async function update() {
  const reply = await ask("api/v1/items", etag ? { "If-None-Match": etag } : {});
  if (reply.status === 304) return;
  const { items } = await reply.json();
  const left = Array.from(nodes.keys()).some((id) => !items.some((item) => item.id === id));
  render(items);
  if (left || etag === "") renderRuns((await (await ask("api/v1/history?limit=8")).json()).items);
  etag = reply.headers.get("ETag") ?? "";
}

async function poll() {
  try {
    await update();
    delay = EVERY;
  } catch {
    etag = "";
    delay = Math.min(delay * 2, SLOWEST);
  }
  document.getElementById("offline").hidden = delay === EVERY;
  setTimeout(poll, delay);
}

poll();
