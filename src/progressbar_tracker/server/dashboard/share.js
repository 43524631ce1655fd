// The page behind a share: what it is for, and what becomes of it. Its stream is its own, and shows nothing else.

import { show } from "./bar.js";

const RECENT = 8;

const bars = document.getElementById("bars");
const runs = document.getElementById("runs");
const offline = document.getElementById("offline");
const single = bars.hasAttribute("data-single");
const nodes = new Map(Array.from(bars.children, (node) => [node.dataset.id, node]));
const news = document.getElementById("news");

function blank(id) {
  const node = document.getElementById("blank").content.firstElementChild.cloneNode(true);
  node.dataset.id = id;
  return node;
}

function put(item) {
  let node = nodes.get(item.id);
  if (node === undefined) nodes.set(item.id, (node = bars.appendChild(blank(item.id))));
  const said = show(node, item);
  if (said !== "") news.textContent = said;
}

function ended(run) {
  // A share of one item goes on showing how its last run ended.
  if (single) return put(run);
  const node = blank(run.id);
  show(node, run);
  runs.prepend(node);
  while (runs.children.length > RECENT) runs.lastElementChild.remove();
  document.getElementById("ended").hidden = false;
  news.textContent = `${run.title || run.id}: ${run.status}`;
}

function drop(id) {
  if (single) return;
  nodes.get(id)?.remove();
  nodes.delete(id);
}

function settle() {
  document.getElementById("empty").hidden = nodes.size > 0;
}

const source = new EventSource(bars.dataset.events);
source.addEventListener("snapshot", ({ data }) => {
  const { items } = JSON.parse(data);
  const there = new Set(items.map((item) => item.id));
  for (const id of [...nodes.keys()]) if (!there.has(id)) drop(id);
  items.forEach(put);
  // In the order of the list: highest weight first, then oldest.
  if (!single) bars.append(...items.map((item) => nodes.get(item.id)));
  settle();
});
source.addEventListener("change", ({ data }) => {
  const change = JSON.parse(data);
  change.ended.forEach(ended);
  change.gone.forEach(drop);
  change.items.forEach(put);
  settle();
});
source.onopen = () => (offline.hidden = true);
source.onerror = () => {
  // Refused, and not just away: the link was revoked or has expired.
  const over = source.readyState === EventSource.CLOSED;
  document.getElementById("over").hidden = !over;
  offline.hidden = over;
};
