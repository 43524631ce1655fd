// The page of the day: a timeline of runs, and a sentence about the time since the last visit.

import { ServerClock } from "./clock.js";
import { requireElement, setText } from "./dom.js";
import { formatTimeOfDay } from "./format.js";
import { LastVisit, isReloaded } from "./last_visit.js";
import { Loader } from "./loader.js";
import { subscribe } from "./stream.js";
import { TimelineChart } from "./timeline_chart.js";
import { RunStore, createRun } from "./timeline_runs.js";
import { renderTable } from "./timeline_table.js";
import { countRuns, formatVisit } from "./timeline_texts.js";
import { resolveChoice } from "./timeline_view.js";
import { createLaneSlides } from "./today_tv.js";
import { Tv, readTvSeconds } from "./tv.js";
import { TodayControls } from "./today_controls.js";

/** @typedef {import("./timeline.js").View} View */
/** @typedef {import("./timeline_runs.js").TimelineRun} TimelineRun */

const FIRST_SNAPSHOT_TIMEOUT_MS = 1500;
const LOAD_DELAY_MS = 150; // of a gesture
const MAX_LOADED_MS = 60 * 86400000;
const DAY_MS = 86400000;
const BOTTOM_PX = 8; // below the lanes of a wall screen
const MAX_VISIT_DAYS = 30;
/** @type {View} */
const NOTHING = { since: Infinity, until: -Infinity };

const page = requireElement("today");
const { viewer = "", root } = page.dataset;
const token = root === undefined ? location.pathname.split("/").at(-2) : null; // of a share, in its address only
const timelineUrl = root === undefined ? "timeline" : `${root}api/v1/timeline`;
const group = token === null ? new URLSearchParams(location.search).get("group") : null;
const tvSeconds = readTvSeconds(new URLSearchParams(location.search));
const isTv = tvSeconds !== null;
const clock = new ServerClock();
const now = () => clock.now();
const store = new RunStore();

/** @type {View} the interval whose runs have been loaded */
let coverage = NOTHING;
let knownSince = Infinity; // all runs that ended after it have been loaded, up to the end of the coverage
let requested = NOTHING; // by the request that is on its way
/** @type {TimelineRun[]} runs before the coverage that the sentence counts */
let visitRuns = [];
let visitSince = Infinity;
let visitKnownSince = Infinity; // all runs that ended after it are among them
let isVisitStale = false; // whether runs may have ended since they were loaded
let isDirty = true; // the runs have changed since the last layout

const loader = new Loader(load);
const controls = new TodayControls(now, () => showView(0));
const visit = new LastVisit(viewer, { now, isReload: isReloaded(), listen: !isTv, onChange: () => refresh() });
const chart = new TimelineChart(requireElement("timeline"), {
  now,
  root: root ?? null,
  storage: isTv ? null : localStorage,
  withHeadings: !isTv,
  onViewChange: (view) => {
    controls.setView(view);
    showView(LOAD_DELAY_MS);
  },
});
const table = /** @type {HTMLDetailsElement} */ (requireElement("table"));
table.addEventListener("toggle", () => refresh());

/** @type {TimelineRun[]} the runs of the interval */
let shownRuns = [];
/** @type {import("./today_tv.js").LaneSlide[]} */
let slides = [];
const tv = tvSeconds === null ? null : new Tv({ listSlides, showSlide }, tvSeconds);

function listSlides() {
  const name = document.querySelector("h1 bdi")?.textContent ?? undefined;
  slides = createLaneSlides(shownRuns, chart.geometry, chart.room - BOTTOM_PX, name);
  return slides;
}

/** @param {import("./tv.js").Slide | null} chosen */
function showSlide(chosen) {
  const slide = slides.find((lanes) => lanes === chosen);
  chart.setZoom(slide?.zoom ?? 1);
  chart.setRuns(slide === undefined ? [] : shownRuns.filter((run) => run.group === slide.group && slide.ids.has(run.id)));
}

/**
 * Applies a message of the stream.
 *
 * @param {StreamMessage} message
 */
export function handleMessage(message) {
  if (message.type === "signed-out") return location.reload();
  if (message.type === "not-found") {
    clock.stop();
    showBanner("This link has ended. The page shows its last state.");
  } else if (message.type === "offline") {
    clock.stop(message.time);
    const at = message.time === null ? "" : ` This is as of ${formatTimeOfDay(Date.parse(message.time))}.`;
    showBanner(`No connection to the server.${at} Trying again…`);
  } else if (message.type === "online") {
    showBanner("");
    reloadRuns();
  } else {
    clock.set(message.time);
    showBanner("");
    if (message.type !== "heartbeat" && store.apply(filterMessage(message), now())) isDirty = true;
    if (message.type === "snapshot") reloadRuns();
    if (!document.hidden) chart.invalidate();
  }
}

// Only the items of the group in the address.
/** @param {Extract<StreamMessage, { items: WireItem[] }>} message @returns {StreamMessage} */
function filterMessage(message) {
  if (group === null) return message;
  const isShown = (/** @type {WireItem} */ item) => (item.group ?? "") === group;
  const items = message.items.filter(isShown);
  if (message.type === "snapshot") return { ...message, items };
  const others = message.items.filter((item) => !isShown(item)); // one may have left the group
  return { ...message, items, gone: [...message.gone, ...others.map(({ id }) => id)], ended: message.ended.filter(isShown) };
}

/** @param {string} text "" for none */
function showBanner(text) {
  setText(requireElement("offline"), text);
  requireElement("offline").hidden = text === "";
  document.body.classList.toggle("offline", text !== "");
}

/** @param {number} delay */
function showView(delay) {
  isDirty ||= !controls.isFree;
  chart.setView(controls.view);
  if (!isCovered() && !includes(requested, controls.view)) {
    requested = NOTHING;
    loader.start(delay);
  }
  if (delay === 0) refresh();
}

// Runs may have ended while there was no stream.
function reloadRuns() {
  isVisitStale = true;
  visitKnownSince = Infinity;
  loader.refresh();
}

/** @param {AbortSignal} signal */
async function load(signal) {
  const { since, until } = controls.view;
  // More than the view, so that the viewer can move it.
  const margin = controls.isFree ? Math.min((until - since) / 2, (MAX_LOADED_MS - (until - since)) / 2) : 0;
  const wanted = { since: since - margin, until: until + margin };
  // The stream brings what ends from now on.
  const covered = { since: wanted.since, until: wanted.until >= now() ? Infinity : wanted.until };
  requested = covered;
  page.setAttribute("aria-busy", "true");
  try {
    const { runs, omitted } = await fetchRuns(wanted, signal);
    coverage = covered;
    knownSince = findKnownSince(wanted.since, runs, omitted);
    store.setFetched(runs);
    const note = requireElement("omitted");
    note.hidden = omitted === 0;
    setText(note, `${omitted.toLocaleString()} older ${omitted === 1 ? "run is" : "runs are"} not shown.`);
    refresh();
    page.dataset.loaded = "true";
    await loadVisit(signal);
    refresh();
  } finally {
    if (!signal.aborted) page.removeAttribute("aria-busy");
  }
}

/** Whether the runs of the view have been loaded. */
function isCovered() {
  return includes(coverage, controls.view);
}

/** @param {View} outer @param {View} inner */
function includes(outer, inner) {
  return inner.since >= outer.since && inner.until <= outer.until;
}

// Loads the runs since the last visit unless the timeline has them.
/** @param {AbortSignal} signal */
async function loadVisit(signal) {
  const since = visitStart();
  if (coverage.since <= since && coverage.until === Infinity) visitRuns = [];
  else if (isVisitStale || since < visitSince) {
    isVisitStale = false;
    visitSince = Infinity; // until the request succeeds
    const { runs, omitted } = await fetchRuns({ since, until: now() }, signal);
    visitRuns = runs.map((run) => createRun(run));
    visitSince = since;
    visitKnownSince = findKnownSince(since, runs, omitted);
  }
}

// The server omits the runs that ended first.
/** @param {number} since @param {import("./timeline_runs.js").WireRun[]} runs newest first @param {number} omitted */
function findKnownSince(since, runs, omitted) {
  return omitted === 0 ? since : Date.parse(runs.at(-1)?.ended_at ?? "") || Infinity;
}

/** @param {View} view @param {AbortSignal} signal @returns {Promise<{ runs: import("./timeline_runs.js").WireRun[], omitted: number }>} */
async function fetchRuns({ since, until }, signal) {
  const query = new URLSearchParams({ since: new Date(since).toISOString(), until: new Date(until).toISOString() });
  if (group) query.set("group", group);
  const response = await fetch(`${timelineUrl}?${query}`, { signal });
  if (!response.ok) throw new Error(`${response.status}`);
  const { runs, omitted } = await response.json();
  // The server has no filter for runs without a group.
  return { runs: group === "" ? runs.filter((/** @type {{ group: string | null }} */ run) => run.group === null) : runs, omitted };
}

function visitStart() {
  const today = resolveChoice({ kind: "day", day: null }, now()).since;
  return visit.at === null || isTv ? today : Math.max(visit.at, now() - MAX_VISIT_DAYS * DAY_MS);
}

/** Shows the runs and the sentence. */
function refresh() {
  const { since, until } = controls.isFree ? union(controls.view, coverage) : controls.view;
  isDirty = false;
  const runs = store.list({ since, until });
  shownRuns = runs;
  if (tv === null) chart.setRuns(runs);
  else tv.update();
  requireElement("empty").hidden = runs.length > 0 || coverage === NOTHING;
  const from = visitStart();
  const counted = new Map(visitRuns.map((run) => [run.key, run]));
  for (const run of store.list({ since: from, until: Infinity })) counted.set(run.key, run);
  const isPartial = from < Math.min(coverage.until === Infinity ? knownSince : Infinity, visitKnownSince);
  const sentence = formatVisit(isTv ? null : visit.at, { ...countRuns(counted.values(), from), isPartial }, now());
  setText(requireElement("visit"), sentence);
  tv?.setSummary(sentence);
  if (table.open) renderTable(requireElement("table-rows"), runs, now(), (run) => chart.urlOf(run));
}

/** @param {View} a @param {View} b @returns {View} */
function union(a, b) {
  return { since: Math.min(a.since, b.since), until: Math.max(a.until, b.until) };
}

function tick() {
  if (document.hidden || clock.isStopped) return;
  tv?.setTime(now());
  if (!controls.isFree) {
    chart.setView(controls.view);
    if (!isCovered() && !loader.isBusy) loader.start(0);
  }
  if (isDirty) refresh();
  store.prune(Math.min(controls.view.since, visitStart()));
  chart.invalidate();
}

chart.setView(controls.view);
subscribe(handleMessage);
loader.start(FIRST_SNAPSHOT_TIMEOUT_MS); // the first snapshot starts it earlier
setInterval(tick, 1000);
