// The page of a share. Its own event stream carries only the items of the share.

import { renderBar } from "./bar.js";

const MAX_RECENT_RUNS = 8;
const SILENCE_TIMEOUT = 45000; // three heartbeats
const RETRY_DELAY = 5000;

const bars = document.getElementById("bars");
const runs = document.getElementById("runs");
const offline = document.getElementById("offline");
const news = document.getElementById("announcement");
const isSingle = bars.hasAttribute("data-single");
const nodes = new Map(Array.from(bars.children, (node) => [node.dataset.id, node]));

function createBar(id) {
  const node = document.getElementById("bar-template").content.firstElementChild.cloneNode(true);
  node.dataset.id = id;
  return node;
}

function updateBar(item) {
  let node = nodes.get(item.id);
  if (node === undefined) nodes.set(item.id, (node = bars.appendChild(createBar(item.id))));
  const announcement = renderBar(node, item);
  if (announcement !== "") news.textContent = announcement;
}

function showEndedRun(run) {
  // The share of one item keeps showing its last run.
  if (isSingle) return updateBar(run);
  const node = createBar(run.id);
  renderBar(node, run);
  runs.prepend(node);
  while (runs.children.length > MAX_RECENT_RUNS) runs.lastElementChild.remove();
  document.getElementById("ended").hidden = false;
  news.textContent = `${run.title || run.id}: ${run.status}`;
}

function removeBar(id) {
  if (isSingle) return;
  nodes.get(id)?.remove();
  nodes.delete(id);
}

function updateEmptyState() {
  document.getElementById("empty").hidden = nodes.size > 0;
}

function applySnapshot({ items }) {
  const ids = new Set(items.map((item) => item.id));
  for (const id of [...nodes.keys()]) if (!ids.has(id)) removeBar(id);
  items.forEach(updateBar);
  // In the order of the list: highest weight first, then oldest.
  if (!isSingle) bars.append(...items.map((item) => nodes.get(item.id)));
  updateEmptyState();
}

function applyChange({ items, gone, ended }) {
  ended.forEach(showEndedRun);
  gone.forEach(removeBar);
  items.forEach(updateBar);
  updateEmptyState();
}

function openStream() {
  const source = new EventSource(bars.dataset.events);
  let silenceTimer;

  function markAlive() {
    offline.hidden = true;
    clearTimeout(silenceTimer);
    silenceTimer = setTimeout(reopen, SILENCE_TIMEOUT);
  }

  function reopen() {
    source.close();
    clearTimeout(silenceTimer);
    offline.hidden = false;
    setTimeout(openStream, RETRY_DELAY);
  }

  for (const [name, apply] of [["snapshot", applySnapshot], ["change", applyChange], ["hb", () => {}]]) {
    source.addEventListener(name, ({ data }) => {
      markAlive();
      apply(JSON.parse(data));
    });
  }
  source.onopen = markAlive;
  source.onerror = async () => {
    offline.hidden = false;
    if (source.readyState !== EventSource.CLOSED) return; // the browser reconnects
    clearTimeout(silenceTimer);
    // A 404 means that the share has ended. A proxy answers with another status while the server is down.
    const status = await fetch(bars.dataset.events, { method: "HEAD" }).then((response) => response.status, () => 0);
    if (status !== 404) return reopen();
    offline.hidden = true;
    document.getElementById("ended-notice").hidden = false;
  };
}

openStream();
