// The board: connects the stream, the query, the list and their companions.

import { announce, describeChanges, formatAnnouncements } from "./announcements.js";
import { createFilter, mayReorder, mayReorderByProgress } from "./arrange.js";
import { AttentionSection } from "./attention_section.js";
import { BoardControls } from "./board_controls.js";
import { BoardList } from "./board_list.js";
import { createBoardTv } from "./board_tv.js";
import { Dismissals } from "./dismissal.js";
import { requireElement, setText } from "./dom.js";
import { formatTimeOfDay } from "./format.js";
import { offerFirstKey } from "./onboarding.js";
import { QueryForm } from "./query.js";
import { RecentRuns } from "./recent_runs.js";
import { rememberScroll, restoreScroll } from "./scroll_position.js";
import { ItemStore } from "./state.js";
import { subscribe } from "./stream.js";
import { summarize, summaryText } from "./summary.js";
import { SummaryFilter } from "./summary_filter.js";
import { updateTab } from "./tab_title.js";
import { Toast } from "./toast.js";

const REORDER_DELAY_MS = 5000; // rows that overtake each other move once in a while

const container = requireElement("board");
const store = new ItemStore();
const now = () => store.clock.now();
const form = new QueryForm(/** @type {HTMLFormElement} */ (requireElement("query")), arrangeBoard);
const counts = new SummaryFilter(requireElement("summary"), form);
const toast = new Toast(requireElement("undo"), announce);
const dismissals = new Dismissals({ toast, rights: container.dataset, onChange: arrangeBoard });
const recentRuns = new RecentRuns(requireElement("recent"), requireElement("runs"), { now, group: form.query.group });
const section = new AttentionSection({ now, dismissals, toast, onChange: arrangeBoard });
/** @type {BoardControls} */
const controls = new BoardControls({ container, board: () => board, form, section, dismissals, toast, now });
/** @type {BoardList} */
const board = new BoardList(container, {
  now,
  urlOfGroup: (group) => form.url({ group }),
  decorate: (row, item) => controls.decorateRow(row, item),
  decorateHeading: (heading, items) => controls.decorateHeading(heading, items),
  section,
  onChange: arrangeBoard,
  isWall: document.documentElement.classList.contains("tv"),
});
const tv = createBoardTv({
  items: () => visibleItems().filter(createFilter(form.query)),
  show: (items, query) => board.arrange(items, query),
  measure: () => board.measure(),
});
let isLive = false; // whether the items are known
let isShowingKey = false; // whether a new key is shown, so that the empty board stays
/** @type {ReturnType<typeof setTimeout> | undefined} */
let reorderTimer;

function visibleItems() {
  return [...store.items.values()].filter((item) => !dismissals.isDismissed(item));
}

function arrangeBoard() {
  clearTimeout(reorderTimer);
  reorderTimer = undefined;
  if (!isLive) return;
  const { query } = form;
  const { size } = store.items;
  if (tv === null) board.arrange(visibleItems(), query);
  else tv.update();
  requireElement("no-match").hidden = board.arrangement.rows.size > 0 || size === 0;
  requireElement("waiting").hidden = size > 0;
  requireElement("query").hidden = size === 0;
  requireElement("scope").hidden = query.group === null;
  setText(requireElement("scope-name"), query.group || "Without a group");
  requireElement("scope").querySelector("a")?.setAttribute("href", form.url({ group: null }));
  updateEmptyState();
  updateSummary();
}

function updateEmptyState() {
  requireElement("empty").hidden = store.items.size > 0 && !isShowingKey;
}

function updateSummary() {
  const { group } = form.query;
  const items = visibleItems();
  const summary = summarize(group === null ? items : items.filter((item) => (item.group ?? "") === group));
  counts.show(store.items.size === 0 ? null : summary);
  updateTab(summary, section.count, store.clock.isStopped);
  tv?.setSummary(summaryText(summary));
}

/** @param {StoreChanges} changes */
function mustArrange({ added, changed, removed, isSnapshot }) {
  if (isSnapshot || added.length > 0 || removed.length > 0) return true;
  const query = tv?.query ?? form.query;
  if (changed.some(([before, after]) => mayReorder(before, after, query))) return true;
  if (changed.some(([before, after]) => mayReorderByProgress(before, after, query))) {
    reorderTimer ??= setTimeout(arrangeBoard, REORDER_DELAY_MS);
  }
  return false;
}

/** @param {StreamMessage} message */
export function handleMessage(message) {
  if (message.type === "signed-out") return location.reload(); // the server redirects to the sign-in page
  if (message.type === "online") return;
  const wasOffline = store.clock.isStopped;
  const changes = store.apply(message);
  if (message.type === "offline") showOffline();
  else if (wasOffline) showOnline();
  if (message.type === "snapshot" || message.type === "change") showChanges(changes);
}

/** @param {StoreChanges} changes */
function showChanges(changes) {
  const wasLive = isLive;
  isLive ||= changes.isSnapshot;
  controls.addRuns(changes);
  dismissals.forget(changes.removed.map(({ id }) => id));
  if (mustArrange(changes)) arrangeBoard();
  else {
    board.refresh(changes.changed.map(([, after]) => after));
    updateSummary();
  }
  announce(formatAnnouncements(describeChanges(changes)));
  recentRuns.add(changes.ended);
  if (changes.isSnapshot && (wasLive || changes.removed.length > 0)) void recentRuns.fetch();
  if (!isLive) return;
  restoreScroll();
  document.documentElement.dataset.live = "";
}

function showOffline() {
  document.body.classList.add("offline");
  setText(requireElement("offline"), `No connection to the server. This is as of ${formatTimeOfDay(now())}. Trying again…`);
  requireElement("offline").hidden = false;
  announce("No connection to the server");
  updateSummary();
}

function showOnline() {
  document.body.classList.remove("offline");
  requireElement("offline").hidden = true;
  announce("The connection is back");
}

if (container.hasAttribute("data-admin")) {
  offerFirstKey((/** @type {boolean} */ isPaused) => {
    isShowingKey = isPaused;
    updateEmptyState();
  });
}
setInterval(() => {
  if (!isLive || store.clock.isStopped) return;
  board.updateTimes();
  tv?.setTime(now());
  controls.updateTimes();
  recentRuns.update();
}, 1000);
void recentRuns.fetch().then(() => isLive && restoreScroll()); // they may be a part of the former place
rememberScroll();
subscribe(handleMessage);
