// The layout of a timeline. Runs become groups, lanes, tracks and rectangles. Pure: no DOM and no clock.

/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */
/** @typedef {{ since: number, until: number }} View an interval in milliseconds since the epoch */

/**
 * Runs that do not overlap, oldest first. `latestEnds[n]` is the latest end of the runs up to the n-th one.
 *
 * @typedef {{ runs: TimelineRun[], latestEnds: Float64Array }} Track
 */

/**
 * A row: the heading of a group, or the lane of an id. A folded heading has one track with all runs of the group.
 *
 * @typedef {object} Row
 * @property {"group" | "lane"} kind
 * @property {string} key
 * @property {string} group
 * @property {string} id The id of a lane.
 * @property {string} title
 * @property {number} y
 * @property {number} height
 * @property {Track[]} tracks
 * @property {TimelineRun[]} runs Oldest first.
 * @property {number} failedCount
 * @property {boolean} isFolded
 */

/** @typedef {{ headingHeight: number, labelHeight: number, trackHeight: number, padding: number, barHeight: number }} Geometry */
/** @typedef {{ rows: Row[], height: number, geometry: Geometry, rowOf: Map<string, Row> }} Layout `rowOf` has the keys of runs */

/**
 * A rectangle of a track. It stands for `count` runs, if most are too narrow to be seen alone.
 *
 * @typedef {{ x: number, width: number, run: TimelineRun, count: number }} Rectangle
 */

const MAX_TRACKS = 8;
const OVERLAP_TOLERANCE_MS = 1000; // a run that begins as the former one ends stays in its track
const MIN_WIDTH_PX = 2;
const SEVERITIES = { failed: 4, stuck: 3, stalled: 3, late: 3, slower: 2, running: 2, stopped: 1, deleted: 1, succeeded: 0 };

/**
 * Returns the sizes of rows in pixels.
 *
 * @param {number} scale 1 at a font size of 16 px
 * @param {boolean} hasLabelsAbove whether the title of a lane is above its runs, on narrow screens
 * @returns {Geometry}
 */
export function createGeometry(scale, hasLabelsAbove = false) {
  return {
    headingHeight: Math.round(34 * scale),
    labelHeight: hasLabelsAbove ? Math.round(22 * scale) : 0,
    trackHeight: Math.round(20 * scale),
    padding: Math.round((hasLabelsAbove ? 3 : 5) * scale),
    barHeight: Math.round(16 * scale),
  };
}

/**
 * Returns the rows of some runs: groups by name, the runs without a group first, and in a group lanes by title.
 *
 * @param {TimelineRun[]} runs
 * @param {Geometry} geometry
 * @param {(group: string) => boolean} [isFolded]
 * @param {boolean} [withHeadings]
 * @returns {Layout}
 */
export function layOutRows(runs, geometry, isFolded = () => false, withHeadings = true) {
  /** @type {Map<string, Map<string, TimelineRun[]>>} */
  const groups = new Map();
  for (const run of [...runs].sort(compareStarts)) {
    let lanes = groups.get(run.group);
    if (lanes === undefined) groups.set(run.group, (lanes = new Map()));
    const lane = lanes.get(run.id);
    if (lane === undefined) lanes.set(run.id, [run]);
    else lane.push(run);
  }
  const rows = /** @type {Row[]} */ ([]);
  const rowOf = new Map();
  let y = 0;
  const hasHeadings = withHeadings && (groups.size > 1 || (groups.size === 1 && !groups.has("")));
  for (const [group, lanes] of [...groups].sort(([a], [b]) => compareTexts(a, b))) {
    const isFoldedGroup = hasHeadings && isFolded(group);
    if (hasHeadings) {
      const all = [...lanes.values()].flat().sort(compareStarts);
      const tracks = isFoldedGroup ? [createTrack(all)] : [];
      const heading = createRow("group", group, "", group || "No group", all, tracks, y, geometry.headingHeight);
      heading.isFolded = isFoldedGroup;
      rows.push(heading);
      y += heading.height;
      if (isFoldedGroup) {
        for (const run of all) rowOf.set(run.key, heading);
        continue;
      }
    }
    const titled = [...lanes].map(([id, laneRuns]) => ({ id, laneRuns, title: laneRuns[laneRuns.length - 1].title || id }));
    titled.sort((a, b) => compareTexts(a.title, b.title) || compareTexts(a.id, b.id));
    for (const { id, laneRuns, title } of titled) {
      const tracks = assignTracks(laneRuns);
      const height = geometry.labelHeight + tracks.length * geometry.trackHeight + 2 * geometry.padding;
      const row = createRow("lane", group, id, title, laneRuns, tracks, y, height);
      rows.push(row);
      for (const run of laneRuns) rowOf.set(run.key, row);
      y += height;
    }
  }
  return { rows, height: y, geometry, rowOf };
}

/**
 * Distributes the runs of a lane over tracks, so that overlapping ones stack.
 *
 * @param {TimelineRun[]} runs oldest first
 * @returns {Track[]}
 */
export function assignTracks(runs) {
  const tracks = /** @type {TimelineRun[][]} */ ([]);
  const ends = /** @type {number[]} */ ([]);
  for (const run of runs) {
    let at = ends.findIndex((end) => end <= run.start + OVERLAP_TOLERANCE_MS);
    if (at < 0) at = tracks.length < MAX_TRACKS ? tracks.length : ends.indexOf(Math.min(...ends));
    (tracks[at] ??= []).push(run);
    ends[at] = Math.max(ends[at] ?? -Infinity, run.end ?? Infinity);
  }
  return tracks.map(createTrack);
}

/**
 * Returns the rectangles of a track, from left to right. Neighbours that are narrower than two pixels are merged; the
 * worst of them gives the colour. So are runs that a run at least as bad covers.
 *
 * @param {Track} track
 * @param {View} view
 * @param {number} width pixels of the view
 * @param {number} now
 * @returns {Rectangle[]}
 */
export function placeRuns(track, view, width, now) {
  const rectangles = /** @type {Rectangle[]} */ ([]);
  const scale = width / (view.until - view.since);
  /** @type {Rectangle | null} */
  let narrow = null;
  /** @type {Rectangle | null} */
  let wide = null;
  for (let at = findFirst(track, view.since); at < track.runs.length; at++) {
    const run = track.runs[at];
    if (run.start > view.until) break;
    const end = run.end ?? Math.max(now, run.start);
    if (end < view.since) continue;
    const left = Math.max((run.start - view.since) * scale, -MIN_WIDTH_PX);
    const right = Math.min((end - view.since) * scale, width + MIN_WIDTH_PX);
    if (wide !== null && right <= wide.x + wide.width && severityOf(run) <= severityOf(wide.run)) wide.count++;
    else if (right - left >= MIN_WIDTH_PX) {
      wide = { x: left, width: right - left, run, count: 1 };
      rectangles.push(wide);
      narrow = null;
    } else if (narrow !== null && left < narrow.x + narrow.width) {
      narrow.count++;
      narrow.width = Math.max(narrow.width, Math.min(left + MIN_WIDTH_PX - narrow.x, MIN_WIDTH_PX));
      if (severityOf(run) > severityOf(narrow.run)) narrow.run = run;
    } else {
      narrow = { x: left, width: MIN_WIDTH_PX, run, count: 1 };
      rectangles.push(narrow);
    }
  }
  return rectangles;
}

/**
 * Returns the run at a point of the layout with the number of runs there, the nearest one within a tolerance, or null.
 *
 * @param {Layout} layout
 * @param {View} view
 * @param {number} width
 * @param {number} now
 * @param {number} x
 * @param {number} y
 * @param {number} [tolerance] pixels
 * @returns {{ run: TimelineRun, row: Row, count: number } | null}
 */
export function findRunAt(layout, view, width, now, x, y, tolerance = 4) {
  const row = layout.rows[findRow(layout, y)];
  const { padding, labelHeight, trackHeight } = layout.geometry;
  const track = row?.tracks[row.kind === "group" ? 0 : Math.floor((y - row.y - padding - labelHeight) / trackHeight)];
  if (track === undefined) return null;
  let nearest = null;
  let distance = tolerance;
  for (const { x: left, width: length, run, count } of placeRuns(track, view, width, now)) {
    const gap = Math.max(left - x, x - left - length, 0);
    if (gap < distance || (gap === 0 && distance === 0)) [nearest, distance] = [{ run, row, count }, gap];
  }
  return nearest;
}

/**
 * Returns the index of the row at a height, or the number of rows below the last one.
 *
 * @param {Layout} layout
 * @param {number} y
 */
export function findRow({ rows }, y) {
  let [low, high] = [0, rows.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].y + rows[middle].height <= y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Returns the place of a run: its row and the top of its bar.
 *
 * @param {Layout} layout
 * @param {TimelineRun} run
 * @returns {{ row: Row, y: number } | null}
 */
export function locateRun(layout, run) {
  const row = layout.rowOf.get(run.key);
  if (row === undefined) return null;
  const { padding, labelHeight, trackHeight, barHeight } = layout.geometry;
  if (row.kind === "group") return { row, y: row.y + (row.height - barHeight) / 2 };
  const track = row.tracks.findIndex(({ runs }) => runs.includes(run));
  return { row, y: row.y + padding + labelHeight + Math.max(track, 0) * trackHeight + (trackHeight - barHeight) / 2 };
}

/**
 * Returns the run that an arrow key moves to: the former or next one of the lane, or the one nearest in time in the lane
 * above or below.
 *
 * @param {Layout} layout
 * @param {TimelineRun} run
 * @param {"previous" | "next" | "up" | "down" | "first" | "last"} direction
 * @returns {TimelineRun}
 */
export function findNeighbour(layout, run, direction) {
  const row = layout.rowOf.get(run.key);
  if (row === undefined) return run;
  const at = row.runs.indexOf(run);
  if (direction === "first") return row.runs[0];
  if (direction === "last") return row.runs[row.runs.length - 1];
  if (direction === "previous") return row.runs[at - 1] ?? run;
  if (direction === "next") return row.runs[at + 1] ?? run;
  const step = direction === "up" ? -1 : 1;
  let next = layout.rows.indexOf(row) + step;
  while (layout.rows[next] !== undefined && layout.rows[next].tracks.length === 0) next += step;
  return layout.rows[next] === undefined ? run : findNearest(layout.rows[next].runs, run.start);
}

/** @param {TimelineRun[]} runs oldest first @param {number} at @returns {TimelineRun} */
export function findNearest(runs, at) {
  return runs.reduce((best, run) => (Math.abs(run.start - at) <= Math.abs(best.start - at) ? run : best));
}

/** @param {TimelineRun} run */
export function severityOf(run) {
  return SEVERITIES[run.state] ?? 0;
}

/** @param {TimelineRun[]} runs oldest first @returns {Track} */
function createTrack(runs) {
  const latestEnds = new Float64Array(runs.length);
  let latest = -Infinity;
  runs.forEach((run, at) => (latestEnds[at] = latest = Math.max(latest, run.end ?? Infinity)));
  return { runs, latestEnds };
}

// Returns the index of the first run that ends after an instant.
/** @param {Track} track @param {number} since */
function findFirst({ latestEnds }, since) {
  let [low, high] = [0, latestEnds.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (latestEnds[middle] < since) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * @param {"group" | "lane"} kind
 * @param {string} group
 * @param {string} id
 * @param {string} title
 * @param {TimelineRun[]} runs
 * @param {Track[]} tracks
 * @param {number} y
 * @param {number} height
 * @returns {Row}
 */
function createRow(kind, group, id, title, runs, tracks, y, height) {
  const failedCount = runs.reduce((count, run) => count + (run.state === "failed" ? 1 : 0), 0);
  return { kind, key: `${kind}\n${group}\n${id}`, group, id, title, y, height, tracks, runs, failedCount, isFolded: false };
}

/** @param {TimelineRun} a @param {TimelineRun} b */
const compareStarts = (a, b) => a.start - b.start || (a.key < b.key ? -1 : 1);
const compareTexts = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" }).compare;
