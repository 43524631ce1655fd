// The page of a share, for readers without an account: the bars of one item or of a group, and what ended recently.
//
// The token is in the URL of the page and nowhere else, so that a saved or printed page does not reveal it.

import { announce, describeChanges, formatAnnouncements } from "./announcements.js";
import { createBar, renderBar, updateBarTimes } from "./bar.js";
import { createBoardTv } from "./board_tv.js";
import { requireElement, setText } from "./dom.js";
import { formatItemPercent, formatTimeOfDay, estimatedShareOf, titleOf } from "./format.js";
import { RecentRuns } from "./recent_runs.js";
import { ShareBars } from "./share_bars.js";
import { ItemStore } from "./state.js";
import { subscribe } from "./stream.js";
import { summarize, summaryText } from "./summary.js";
import { formatTabTitle } from "./tab_title.js";

const FETCH_TIMEOUT_MS = 10000;

const token = location.pathname.replace(/\/$/, "").split("/").at(-1) ?? "";
const historyUrl = new URL(`${token}/history`, location.href).href;
const store = new ItemStore();
const now = () => store.clock.now();
const bars = requireElement("bars");

/** @typedef {{ show: (changes: StoreChanges) => void, updateTimes: () => void }} ShareView */

/**
 * Returns the view of a group.
 *
 * @returns {ShareView}
 */
function createGroupView() {
  const name = document.querySelector("h1")?.textContent ?? "";
  const shown = new ShareBars(bars, requireElement("more"), now);
  const recentRuns = new RecentRuns(requireElement("recent"), requireElement("runs"), { now, url: historyUrl, urlOfRun: null });
  const tv = createBoardTv({
    items: () => [...store.items.values()].filter(({ parent }) => parent === null),
    show: (items) => shown.arrange(items),
    measure: () => shown.measure(),
    title: name,
  });

  /** @param {StoreChanges} changes */
  function show({ isSnapshot, added, removed, changed, ended }) {
    const isArranged = !isSnapshot && added.length + removed.length === 0 && shown.refresh(changed);
    if (!isArranged && tv === null) shown.arrange(store.items.values());
    else if (!isArranged) tv?.update();
    const summary = summarize(store.items.values());
    setText(requireElement("summary"), store.items.size === 0 ? "" : summaryText(summary));
    tv?.setSummary(summaryText(summary));
    document.title = `${formatTabTitle(summary, 0, false)} - ${name}`;
    requireElement("empty").hidden = store.items.size > 0;
    recentRuns.add(ended);
    if (isSnapshot) void recentRuns.fetch();
  }

  return {
    show,
    updateTimes() {
      tv?.setTime(now());
      shown.updateTimes();
      recentRuns.update();
    },
  };
}

/**
 * Returns the view of one item. After its end it shows the last run.
 *
 * @returns {ShareView}
 */
function createItemView() {
  const bar = createBar("h1");

  /** @param {WireItem} item */
  function showItem(item) {
    requireElement("empty").hidden = true;
    if (!bar.isConnected) bars.replaceChildren(bar);
    renderBar(bar, item, now());
    document.title = `${[formatItemPercent(item, estimatedShareOf(item)), titleOf(item)].filter((text) => text !== "").join(" - ")}`;
  }

  async function showLastRun() {
    try {
      const response = await fetch(historyUrl, { signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) });
      const [run] = response.ok ? (await response.json()).items.map(completeItem) : [];
      if (store.items.size > 0) return; // it has begun again meanwhile
      if (run !== undefined) showItem(run);
      else requireElement("empty").hidden = bar.isConnected;
    } catch {
      // The stream reports the lost connection, and the run is read again after the next snapshot.
    }
  }

  return {
    show({ isSnapshot, ended }) {
      const item = [...store.items.values()].at(-1) ?? ended.at(-1);
      if (item !== undefined) showItem(item);
      else if (isSnapshot) void showLastRun();
    },
    updateTimes: () => updateBarTimes(bar, now()),
  };
}

/**
 * Adds the fields that a share does not show. A run is known by its start.
 *
 * @param {WireItem} item
 * @returns {WireItem}
 */
function completeItem(item) {
  return Object.assign(/** @type {WireItem} */ ({ group: null, parent: null, run_id: item.started_at, owner: "", meta: {} }), item);
}

/**
 * @param {StreamMessage} message
 * @returns {StreamMessage}
 */
function completeMessage(message) {
  if (message.type === "snapshot") return { ...message, items: message.items.map(completeItem) };
  if (message.type !== "change") return message;
  return { ...message, items: message.items.map(completeItem), ended: message.ended.map(completeItem) };
}

/** @param {StreamMessage} message */
function handleMessage(message) {
  if (message.type === "not-found") return showEnd();
  const changes = store.apply(completeMessage(message));
  if (message.type === "offline") showOffline();
  else if (!store.clock.isStopped) {
    requireElement("offline").hidden = true;
    document.body.classList.remove("offline");
  }
  if (message.type !== "snapshot" && message.type !== "change") return;
  view.show(changes);
  announce(formatAnnouncements(describeChanges(changes)));
  document.documentElement.dataset.live = "";
}

function showOffline() {
  setText(requireElement("offline"), `No connection to the server. This is as of ${formatTimeOfDay(now())}. Trying again…`);
  requireElement("offline").hidden = false;
  document.body.classList.add("offline");
}

function showEnd() {
  store.clock.stop();
  requireElement("offline").hidden = true;
  requireElement("ended-notice").hidden = false;
  document.body.classList.add("offline");
}

const view = bars.hasAttribute("data-single") ? createItemView() : createGroupView();
subscribe(handleMessage);
setInterval(() => {
  if (!store.clock.isStopped) view.updateTimes();
}, 1000);
