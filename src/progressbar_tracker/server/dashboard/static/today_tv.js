// The slides of the timeline on a wall screen: the groups, each with as many lanes a page as fit. Pure.

import { layOutRows } from "./timeline.js";

/** @typedef {import("./timeline.js").Row} Row */
/** @typedef {import("./timeline.js").Geometry} Geometry */
/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */
/** @typedef {import("./tv.js").Slide & { group: string, ids: Set<string>, zoom: number }} LaneSlide */

const MAX_ZOOM = 1.5; // of a group with few lanes

/** @type {Partial<Record<State, number>>} */
const RANKS = { stuck: 3, stalled: 3, late: 3, failed: 2, slower: 1 };

/**
 * Returns the slides of some runs. Lanes that need attention are on the first pages of their group.
 *
 * @param {TimelineRun[]} runs
 * @param {Geometry} geometry
 * @param {number} height pixels for the lanes
 * @param {string} [title] of runs without a group
 * @returns {LaneSlide[]}
 */
export function createLaneSlides(runs, geometry, height, title = "No group") {
  /** @type {Map<string, Row[]>} */
  const groups = new Map();
  for (const row of layOutRows(runs, geometry).rows) {
    if (row.kind !== "lane") continue;
    const lanes = groups.get(row.group);
    if (lanes === undefined) groups.set(row.group, [row]);
    else lanes.push(row);
  }
  return [...groups].flatMap(([group, lanes]) => {
    const sorted = lanes.sort((a, b) => rankOf(b) - rankOf(a));
    const name = group || (groups.size > 1 || title !== "No group" ? title : "");
    return splitPages(sorted, (row) => row.height, height).map((page, at) => ({
      key: `${at} ${group}`,
      title: name,
      rank: Math.max(...page.map(rankOf)),
      group,
      ids: new Set(page.map(({ id }) => id)),
      zoom: Math.min(Math.max(height / lanes.reduce((sum, row) => sum + row.height, 0), 1), MAX_ZOOM),
    }));
  });
}

/**
 * Splits a list into pages that fit a height. Each page has at least one entry.
 *
 * @template Entry
 * @param {Entry[]} entries
 * @param {(entry: Entry) => number} heightOf
 * @param {number} height
 * @returns {Entry[][]}
 */
export function splitPages(entries, heightOf, height) {
  const pages = /** @type {Entry[][]} */ ([]);
  let free = 0;
  for (const entry of entries) {
    const size = heightOf(entry);
    if (pages.length === 0 || size > free) {
      pages.push([]);
      free = height;
    }
    pages[pages.length - 1].push(entry);
    free -= size;
  }
  return pages;
}

// The newest run of a lane decides.
/** @param {Row} row */
function rankOf({ runs }) {
  return RANKS[runs[runs.length - 1].state] ?? 0;
}
