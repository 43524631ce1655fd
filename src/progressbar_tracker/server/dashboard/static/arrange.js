// What is shown, and where: pure, and the same as in view.py.

import { isOpen, nameOf, number, stateOf } from "./words.js";

const DEEPEST = 3;
const ANCESTORS = 100;
const URGENCY = ["failed", "stalled", "running", "stopped", "succeeded"];
const collator = new Intl.Collator(undefined, { numeric: true });

function least(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

function byWeight(one, other) {
  return other.weight - one.weight || least(one.created_at, other.created_at);
}

const ORDERS = {
  progress: (one, other) => other.value - one.value || byWeight(one, other),
  left: (one, other) => least(one.eta ?? Infinity, other.eta ?? Infinity) || byWeight(one, other),
  newest: (one, other) => least(other.created_at, one.created_at) || byWeight(one, other),
  title: (one, other) => collator.compare(nameOf(one), nameOf(other)) || byWeight(one, other),
  status: (one, other) => URGENCY.indexOf(stateOf(one)) - URGENCY.indexOf(stateOf(other)) || byWeight(one, other),
};

export function matches(item, { q, status }) {
  const state = stateOf(item);
  if (status === "ended" ? item.status === "running" : status !== "" && status !== state) return false;
  if (q === "") return true;
  const sought = q.toLowerCase();
  return [item.title, item.id, item.description, item.group ?? "", item.owner].some((text) =>
    text.toLowerCase().includes(sought));
}

/** Whether an item that has changed may stand elsewhere now. */
export function moves(before, after, { q, sort }) {
  return before.group !== after.group || before.parent !== after.parent || before.weight !== after.weight ||
    before.created_at !== after.created_at || before.status !== after.status || before.stalled !== after.stalled ||
    ((sort === "title" || q !== "") && (before.title !== after.title || before.description !== after.description));
}

/** Whether it may come to stand elsewhere by its mere progress. */
export function drifts(before, after, { sort }) {
  return (sort === "progress" && before.value !== after.value) || (sort === "left" && before.eta !== after.eta);
}

/** Returns sections in order: { group, rows: [{ item, depth }] }, children beneath their parents. */
export function arrange(items, view) {
  const shown = items.filter((item) => matches(item, view)).sort(ORDERS[view.sort] ?? byWeight);
  const known = new Map(shown.map((item) => [item.id, item]));
  const children = new Map();
  const roots = [];
  for (const item of shown) {
    if (!hangs(item, known)) roots.push(item);
    else if (children.has(item.parent)) children.get(item.parent).push(item);
    else children.set(item.parent, [item]);
  }
  const sections = new Map();
  for (const root of roots) {
    const group = root.group ?? "";
    if (!sections.has(group)) sections.set(group, { group, rows: [] });
    const rows = sections.get(group).rows;
    const waiting = [[root, 0]];
    while (waiting.length > 0) {
      const [item, depth] = waiting.pop();
      rows.push({ item, depth: Math.min(depth, DEEPEST) });
      for (const child of (children.get(item.id) ?? []).toReversed()) waiting.push([child, depth + 1]);
    }
  }
  return [...sections.values()];
}

// Whether an item stands beneath its parent: one that is shown, and not beneath the item itself.
function hangs(item, known) {
  let above = known.get(item.parent);
  if (above === undefined) return false;
  for (let n = 0; n < ANCESTORS; n++) {
    if (above === item) return false;
    above = known.get(above.parent);
    if (above === undefined) return true;
  }
  return false;
}

/** Returns { running, stalled, failed, share }: how many, and the mean of the shares that are known, or null. */
export function sum(items) {
  const found = { running: 0, stalled: 0, failed: 0, share: null };
  let shares = 0;
  let known = 0;
  for (const item of items) {
    if (item.status === "failed") found.failed++;
    if (item.status !== "running") continue;
    found.running++;
    if (item.stalled) found.stalled++;
    if (isOpen(item)) continue;
    shares += item.value;
    known++;
  }
  if (known > 0) found.share = shares / known;
  return found;
}

export function told({ running, stalled, failed }) {
  const words = [`${number(running)} running`];
  if (stalled > 0) words.push(`${number(stalled)} stalled`);
  if (failed > 0) words.push(`${number(failed)} failed`);
  return words.join(", ");
}
