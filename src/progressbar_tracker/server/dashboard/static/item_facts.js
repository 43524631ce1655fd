// The facts of an item or a run: its times, its place on the board, what the program says about itself.

import { formatDate, formatExactDate } from "./dates.js";
import { createElement, setText } from "./dom.js";
import { formatAge, formatNumber } from "./format.js";
import { ROOT, itemPageUrl } from "./urls.js";

/** @type {[string, "started_at" | "progressed_at" | "updated_at" | "deadline" | "stop_requested_at" | "ended_at"][]} */
const TIMES = [
  ["Started", "started_at"], ["Last progress", "progressed_at"], ["Last heard from", "updated_at"], ["Deadline", "deadline"],
  ["Stop requested", "stop_requested_at"], ["Ended", "ended_at"],
];

const AGED_FIELDS = new Set(["progressed_at", "updated_at"]);

/** The list of facts. */
export class Facts {
  constructor() {
    this.list = createElement("dl", { class: "facts" });
    /** @type {WireItem | null} */
    this.item = null;
    this.key = "";
    /** @type {Map<string, { time: HTMLTimeElement, age: HTMLElement, row: HTMLElement }>} */
    this.times = new Map();
  }

  /**
   * Shows the facts of an item. The elements are created again only if a fact other than a time has changed.
   *
   * @param {WireItem} item
   * @param {number} now the server's time in milliseconds
   */
  show(item, now) {
    this.item = item;
    const { id, group, parent, owner, weight, run_id: runId, notify, stoppable, meta } = item;
    const key = JSON.stringify([id, group, parent, owner, weight, runId, notify, stoppable, meta]);
    if (key !== this.key) this.#create(item);
    this.key = key;
    for (const [, field] of TIMES) {
      const instant = item[field];
      const { time, row } = /** @type {{ time: HTMLTimeElement, row: HTMLElement }} */ (this.times.get(field));
      row.hidden = !instant;
      if (!instant || time.dateTime === instant) continue;
      time.dateTime = instant;
      time.title = formatExactDate(instant);
      setText(time, formatDate(instant));
    }
    this.updateAges(now);
  }

  /**
   * Updates the ages.
   *
   * @param {number} now the server's time in milliseconds
   */
  updateAges(now) {
    const { item } = this;
    if (item === null) return;
    for (const [, field] of TIMES) {
      const instant = item[field];
      const isAged = AGED_FIELDS.has(field) && item.status === "running" && typeof instant === "string";
      const { age } = /** @type {{ age: HTMLElement }} */ (this.times.get(field));
      setText(age, isAged ? `${formatAge((now - Date.parse(instant)) / 1000)} ago` : "");
    }
  }

  /** @param {WireItem} item */
  #create(item) {
    this.times.clear();
    const rows = [
      createFact("Id", createElement("code", {}, item.id)),
      item.group !== null && createFact("Group", createElement("a", { href: groupUrl(item.group) }, createElement("bdi", {}, item.group))),
      item.parent !== null && createFact("Part of", createElement("a", { href: itemPageUrl(item.parent) }, createElement("bdi", {}, item.parent))),
      ...TIMES.map(([name, field]) => {
        const time = createElement("time", { "data-time": field });
        const age = createElement("span", { class: "muted", "data-age": true });
        const row = createFact(name, time, " ", age);
        this.times.set(field, { time, age, row });
        return row;
      }),
      item.owner !== "" && createFact("Owner", createElement("bdi", {}, item.owner)),
      item.weight !== 0 && createFact("Weight", formatNumber(item.weight)),
      createFact("Run", createElement("code", {}, item.run_id)),
      item.notify.length > 0 && createFact("Notifies", createElement("bdi", {}, item.notify.join(", "))),
      item.stoppable && createFact("Stop requests", "accepted"),
      ...Object.entries(item.meta).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => createFact(name, createElement("bdi", {}, value))),
    ];
    this.list.replaceChildren(...rows.filter((row) => row !== false));
  }
}

/**
 * @param {string} name
 * @param {...(Node | string)} value
 */
function createFact(name, ...value) {
  return createElement("div", {}, createElement("dt", {}, createElement("bdi", {}, name)), createElement("dd", {}, ...value));
}

/** @param {string} group */
function groupUrl(group) {
  const url = new URL(ROOT);
  url.searchParams.set("group", group);
  return url.href;
}
