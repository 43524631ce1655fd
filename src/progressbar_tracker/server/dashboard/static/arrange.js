// Filters, sorts and groups the items of the board: a query and items in, a flat list of entries out. Pure, but for texts
// and keys that are cached for an item, which is never changed in place.

import { CONDITIONS, estimatedShareOf, titleOf } from "./format.js";

const MAX_DEPTH = 3;
const MAX_ANCESTORS = 100;
/** @type {State[]} */
const URGENCY_ORDER = ["failed", ...CONDITIONS, "running", "stopped", "succeeded"];
const collator = new Intl.Collator(undefined, { numeric: true });

/** @type {WeakMap<WireItem, string>} */
const searchTexts = new WeakMap();
/** @type {WeakMap<WireItem, string>} */
const titleKeys = new WeakMap();

/** The entries of headings and errors; the key of an item's entry is its id. Ids contain no control characters. */
export const headingKey = (/** @type {string} */ group) => `\u0001${group}`;
export const errorKey = (/** @type {string} */ id) => `\u0002${id}`;

/** @param {WireItem} item */
function searchTextOf(item) {
  let text = searchTexts.get(item);
  if (text === undefined) {
    // A line break separates the fields: a search text of one line never matches across two of them.
    text = `${item.title}\n${item.id}\n${item.description}\n${item.group ?? ""}\n${item.owner}`.toLowerCase();
    searchTexts.set(item, text);
  }
  return text;
}

// Digits are padded, so that plain comparison nearly agrees with the collator, which is slow.
/** @param {WireItem} item */
function titleKeyOf(item) {
  let key = titleKeys.get(item);
  if (key === undefined) {
    key = titleOf(item).toLowerCase().replace(/\d+/g, (digits) => digits.padStart(15, "0"));
    titleKeys.set(item, key);
  }
  return key;
}

/**
 * @param {string | number} a
 * @param {string | number} b
 */
function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * @param {WireItem} a
 * @param {WireItem} b
 */
function byWeight(a, b) {
  return b.weight - a.weight || compare(a.created_at, b.created_at);
}

/**
 * @param {WireItem} item
 * @param {Condition} condition
 */
function hasCondition(item, condition) {
  return item.status === "running" && Boolean(item[condition]);
}

/** @param {WireItem} item */
function urgencyOf(item) {
  return URGENCY_ORDER.indexOf(CONDITIONS.find((condition) => hasCondition(item, condition)) ?? item.status);
}

// Returns the predicted finish, or the seconds that are left if an older server does not predict it.
/** @param {WireItem} item */
function finishOf(item) {
  if (item.stuck) return Infinity; // its estimate is not shown
  return typeof item.finish_at === "string" ? Date.parse(item.finish_at) : (item.eta ?? Infinity);
}

/** @param {WireItem} item */
function progressOf(item) {
  return estimatedShareOf(item) ?? item.value;
}

/** @type {Record<string, (item: WireItem) => number>} */
const SORT_KEYS = { progress: (item) => -progressOf(item), left: finishOf, status: urgencyOf };

/**
 * Sorts items in place; items of the same key are by weight.
 *
 * @param {WireItem[]} items
 * @param {string} sort
 * @param {{ isNearlySorted?: boolean }} [options]
 */
export function sortItems(items, sort, { isNearlySorted = false } = {}) {
  if (sort === "newest") return items.sort((a, b) => compare(b.created_at, a.created_at) || byWeight(a, b));
  if (sort === "title") {
    // The first pass leaves little to do for the collator, which compares nearly each pair of neighbours once.
    if (!isNearlySorted) items.sort((a, b) => compare(titleKeyOf(a), titleKeyOf(b)));
    return items.sort((a, b) => (titleOf(a) === titleOf(b) ? 0 : collator.compare(titleOf(a), titleOf(b))) || byWeight(a, b));
  }
  const keyOf = Object.hasOwn(SORT_KEYS, sort) ? SORT_KEYS[sort] : undefined;
  if (keyOf === undefined) return items.sort(byWeight);
  const keyed = items.map((item) => ({ item, key: keyOf(item) }));
  keyed.sort((a, b) => compare(a.key, b.key) || byWeight(a.item, b.item));
  for (let n = 0; n < keyed.length; n++) items[n] = keyed[n].item;
  return items;
}

/**
 * Returns the condition that the items of a query meet.
 *
 * @param {BoardQuery} query
 * @returns {(item: WireItem) => boolean}
 */
export function createFilter({ q, status, group }) {
  const text = q.toLowerCase();
  const condition = CONDITIONS.find((name) => name === status);
  const hasStatus =
    condition !== undefined ? (/** @type {WireItem} */ item) => hasCondition(item, condition)
    : status === "ended" ? (/** @type {WireItem} */ item) => item.status !== "running"
    : (/** @type {WireItem} */ item) => status === "" || status === item.status;
  return (item) => (group === null || (item.group ?? "") === group) && hasStatus(item) && (text === "" || searchTextOf(item).includes(text));
}

/**
 * Whether a change of an item may move, add or remove its row at once.
 *
 * @param {WireItem} before
 * @param {WireItem} after
 * @param {BoardQuery} query
 */
export function mayReorder(before, after, { q, sort }) {
  return before.group !== after.group || before.parent !== after.parent || before.weight !== after.weight ||
    before.created_at !== after.created_at || before.status !== after.status || before.error !== after.error ||
    before.stuck !== after.stuck || before.stalled !== after.stalled || before.late !== after.late || before.slower !== after.slower ||
    (sort === "title" && before.title !== after.title) || (q !== "" && searchTextOf(before) !== searchTextOf(after));
}

/**
 * Whether mere progress of an item may move its row.
 *
 * @param {WireItem} before
 * @param {WireItem} after
 * @param {BoardQuery} query
 */
export function mayReorderByProgress(before, after, { sort }) {
  return (sort === "progress" && progressOf(before) !== progressOf(after)) || (sort === "left" && finishOf(before) !== finishOf(after));
}

/**
 * Returns the entries of the board in the order of the items, with children below their parents.
 *
 * @param {Iterable<WireItem>} items sorted items
 * @param {BoardQuery} query
 * @param {{ foldedGroups?: ReadonlySet<string>, openErrors?: ReadonlySet<string> }} [options] groups without rows, and the
 *   ids of items whose error has an entry
 * @returns {Arrangement}
 */
export function arrangeItems(items, query, { foldedGroups = new Set(), openErrors = new Set() } = {}) {
  const groups = groupRows([...items].filter(createFilter(query)));
  const hasHeadings = groups.size > 1 || !groups.has("");
  /** @type {BoardEntry[]} */
  const entries = [];
  /** @type {Map<string, ItemEntry>} */
  const rows = new Map();
  for (const { heading, rows: groupedRows } of groups.values()) {
    heading.isFolded = hasHeadings && foldedGroups.has(heading.group);
    if (hasHeadings) entries.push(heading);
    if (groupedRows.length > 0) {
      groupedRows[0].isFirst = true;
      groupedRows[groupedRows.length - 1].isLast = true;
    }
    for (const row of groupedRows) {
      rows.set(row.key, row);
      if (heading.isFolded) continue;
      entries.push(row);
      if (row.item.error && openErrors.has(row.key)) entries.push({ kind: "error", key: errorKey(row.key), row });
    }
  }
  return { entries, groups, rows };
}

/**
 * @param {WireItem[]} items sorted items
 * @returns {Map<string, BoardGroup>}
 */
function groupRows(items) {
  /** @type {Map<string, BoardGroup>} */
  const groups = new Map();
  /** @type {Map<string, WireItem[]>} */
  const children = new Map();
  let roots = items;
  if (items.some((item) => item.parent !== null)) {
    const byId = new Map(items.map((item) => [item.id, item]));
    roots = [];
    for (const item of items) {
      const siblings = children.get(item.parent ?? "");
      if (!isNested(item, byId)) roots.push(item);
      else if (siblings !== undefined) siblings.push(item);
      else children.set(/** @type {string} */ (item.parent), [item]);
    }
  }
  for (const root of roots) {
    const name = root.group ?? "";
    let group = groups.get(name);
    if (group === undefined) {
      group = { heading: { kind: "heading", key: headingKey(name), group: name, isFolded: false }, rows: [] };
      groups.set(name, group);
    }
    addRows(group.rows, root, 0, children);
  }
  return groups;
}

/**
 * @param {ItemEntry[]} rows
 * @param {WireItem} root
 * @param {number} depth
 * @param {Map<string, WireItem[]>} children
 */
function addRows(rows, root, depth, children) {
  /** @type {[WireItem, number][]} */
  const stack = [[root, depth]];
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const [item, level] = top;
    rows.push({ kind: "item", key: item.id, item, depth: Math.min(level, MAX_DEPTH), isFirst: false, isLast: false });
    const below = children.get(item.id);
    if (below !== undefined) for (let n = below.length - 1; n >= 0; n--) stack.push([below[n], level + 1]);
  }
}

/**
 * Whether an item is shown below its parent: the parent matches, and is no descendant of the item.
 *
 * @param {WireItem} item
 * @param {Map<string, WireItem>} byId
 */
function isNested(item, byId) {
  let ancestor = byId.get(item.parent ?? "");
  if (ancestor === undefined) return false;
  for (let n = 0; n < MAX_ANCESTORS; n++) {
    if (ancestor === item) return false;
    ancestor = byId.get(ancestor.parent ?? "");
    if (ancestor === undefined) return true;
  }
  return false;
}
