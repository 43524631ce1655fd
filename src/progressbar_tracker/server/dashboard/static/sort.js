// Filters, sorts and groups the items of the board, in the same way as board_view.py. Pure.

import { formatNumber, isOpenEnded, stateOf, titleOf } from "./format.js";

const MAX_DEPTH = 3;
const MAX_ANCESTORS = 100;
const URGENCY_ORDER = ["failed", "stalled", "running", "stopped", "succeeded"];
const collator = new Intl.Collator(undefined, { numeric: true });

function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

function byWeight(a, b) {
  return b.weight - a.weight || compare(a.created_at, b.created_at);
}

const COMPARATORS = {
  progress: (a, b) => b.value - a.value || byWeight(a, b),
  left: (a, b) => compare(a.eta ?? Infinity, b.eta ?? Infinity) || byWeight(a, b),
  newest: (a, b) => compare(b.created_at, a.created_at) || byWeight(a, b),
  title: (a, b) => collator.compare(titleOf(a), titleOf(b)) || byWeight(a, b),
  status: (a, b) => URGENCY_ORDER.indexOf(stateOf(a)) - URGENCY_ORDER.indexOf(stateOf(b)) || byWeight(a, b),
};

function matches(item, { q, status }) {
  const state = stateOf(item);
  if (status === "ended" ? item.status === "running" : status !== "" && status !== state) return false;
  if (q === "") return true;
  const text = q.toLowerCase();
  return [item.title, item.id, item.description, item.group ?? "", item.owner].some((field) =>
    field.toLowerCase().includes(text));
}

/** Whether a change of an item may move its row at once. */
export function mayReorder(before, after, { q, sort }) {
  return before.group !== after.group || before.parent !== after.parent || before.weight !== after.weight ||
    before.created_at !== after.created_at || before.status !== after.status || before.stalled !== after.stalled ||
    ((sort === "title" || q !== "") && (before.title !== after.title || before.description !== after.description));
}

/** Whether mere progress of an item may move its row. */
export function mayReorderByProgress(before, after, { sort }) {
  return (sort === "progress" && before.value !== after.value) || (sort === "left" && before.eta !== after.eta);
}

/** Returns sections in order: { group, rows: [{ item, depth }] }, with children below their parents. */
export function arrangeItems(items, query) {
  const matching = items.filter((item) => matches(item, query)).sort(COMPARATORS[query.sort] ?? byWeight);
  const byId = new Map(matching.map((item) => [item.id, item]));
  const children = new Map();
  const roots = [];
  for (const item of matching) {
    if (!isNested(item, byId)) roots.push(item);
    else if (children.has(item.parent)) children.get(item.parent).push(item);
    else children.set(item.parent, [item]);
  }
  const sections = new Map();
  for (const root of roots) {
    const group = root.group ?? "";
    if (!sections.has(group)) sections.set(group, { group, rows: [] });
    const rows = sections.get(group).rows;
    const stack = [[root, 0]];
    while (stack.length > 0) {
      const [item, depth] = stack.pop();
      rows.push({ item, depth: Math.min(depth, MAX_DEPTH) });
      for (const child of (children.get(item.id) ?? []).toReversed()) stack.push([child, depth + 1]);
    }
  }
  return [...sections.values()];
}

// Whether an item is shown below its parent: the parent matches, and is no descendant of the item.
function isNested(item, byId) {
  let ancestor = byId.get(item.parent);
  if (ancestor === undefined) return false;
  for (let n = 0; n < MAX_ANCESTORS; n++) {
    if (ancestor === item) return false;
    ancestor = byId.get(ancestor.parent);
    if (ancestor === undefined) return true;
  }
  return false;
}

/** Returns { running, stalled, failed, meanValue }: counts, and the mean value of running items with a known total, or null. */
export function summarize(items) {
  const summary = { running: 0, stalled: 0, failed: 0, meanValue: null };
  let total = 0;
  let known = 0;
  for (const item of items) {
    if (item.status === "failed") summary.failed++;
    if (item.status !== "running") continue;
    summary.running++;
    if (item.stalled) summary.stalled++;
    if (isOpenEnded(item)) continue;
    total += item.value;
    known++;
  }
  if (known > 0) summary.meanValue = total / known;
  return summary;
}

export function summaryText({ running, stalled, failed }) {
  const parts = [`${formatNumber(running)} running`];
  if (stalled > 0) parts.push(`${formatNumber(stalled)} stalled`);
  if (failed > 0) parts.push(`${formatNumber(failed)} failed`);
  return parts.join(", ");
}
