// The page behind a share: what it is for, and what becomes of it. Its stream is its own, and shows nothing else.

import { show } from "./bar.js";

const RECENT = 8;
const SILENCE = 45000; // three missed beats
const RETRY = 5000;

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

function snapshot({ items }) {
  const there = new Set(items.map((item) => item.id));
  for (const id of [...nodes.keys()]) if (!there.has(id)) drop(id);
  items.forEach(put);
  // In the order of the list: highest weight first, then oldest.
  if (!single) bars.append(...items.map((item) => nodes.get(item.id)));
  settle();
}

function change(told) {
  told.ended.forEach(ended);
  told.gone.forEach(drop);
  told.items.forEach(put);
  settle();
}

function open() {
  const source = new EventSource(bars.dataset.events);
  let silent;

  function heard() {
    offline.hidden = true;
    clearTimeout(silent);
    silent = setTimeout(again, SILENCE);
  }

  function again() {
    source.close();
    clearTimeout(silent);
    offline.hidden = false;
    setTimeout(open, RETRY);
  }

  for (const [name, does] of [["snapshot", snapshot], ["change", change], ["hb", () => {}]]) {
    source.addEventListener(name, ({ data }) => {
      heard();
      does(JSON.parse(data));
    });
  }
  source.onopen = heard;
  source.onerror = async () => {
    offline.hidden = false;
    if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
    clearTimeout(silent);
    // Refused. By the server, for the link has ended, or by a proxy, for the server is away?
    const status = await fetch(bars.dataset.events, { method: "HEAD" }).then((reply) => reply.status, () => 0);
    if (status !== 404) return again();
    offline.hidden = true;
    document.getElementById("over").hidden = false;
  };
}

open();
