// The controls of the timeline: the interval, the day, and the zoom. The choice is in the address of the page.

import { requireElement, setText } from "./dom.js";
import { formatDay, parseChoice, resolveChoice, stepChoice, writeChoice, zoomView } from "./timeline_view.js";

/** @typedef {import("./timeline_view.js").Choice} Choice */
/** @typedef {import("./timeline.js").View} View */

const URL_DELAY_MS = 300;
const RANGE_TITLES = { "1h": "Last hour", "6h": "Last 6 hours", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days" };
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const rangeFormat = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit",
});

export class TodayControls {
  #now;
  #onChange;
  /** @type {Choice} */
  #choice;
  #urlTimer = 0;

  /** @param {() => number} now @param {() => void} onChange */
  constructor(now, onChange) {
    this.#now = now;
    this.#onChange = onChange;
    this.#choice = parseChoice(new URLSearchParams(location.search));
    for (const button of this.#buttons()) {
      button.addEventListener("click", () => this.choose(button.value === "day" ? { kind: "day", day: null } : { kind: "range", name: button.value }));
    }
    requireElement("earlier").addEventListener("click", () => this.choose(stepChoice(this.#choice, -1, now())));
    requireElement("later").addEventListener("click", () => this.choose(stepChoice(this.#choice, 1, now())));
    requireElement("zoom-in").addEventListener("click", () => this.#zoom(0.5));
    requireElement("zoom-out").addEventListener("click", () => this.#zoom(2));
    const day = /** @type {HTMLInputElement} */ (requireElement("day"));
    day.addEventListener("change", () => {
      if (day.value !== "") this.choose({ kind: "day", day: day.value === formatDay(now()) ? null : day.value });
    });
    addEventListener("popstate", () => {
      this.#choice = parseChoice(new URLSearchParams(location.search));
      this.render();
      onChange();
    });
    this.render();
  }

  get view() {
    return resolveChoice(this.#choice, this.#now());
  }

  /** Whether the interval has been chosen by zooming or moving. */
  get isFree() {
    return this.#choice.kind === "free";
  }

  /** @param {Choice} choice */
  choose(choice) {
    this.#choice = choice;
    this.#writeUrl();
    this.render();
    this.#onChange();
  }

  /** Follows the pointer. The address changes a little later, as browsers limit the number of changes. @param {View} view */
  setView({ since, until }) {
    this.#choice = { kind: "free", since, until };
    this.render();
    clearTimeout(this.#urlTimer);
    this.#urlTimer = window.setTimeout(() => this.#writeUrl(), URL_DELAY_MS);
  }

  /** Shows the choice. */
  render() {
    const choice = this.#choice;
    for (const button of this.#buttons()) {
      const isPressed = choice.kind === "range" ? button.value === choice.name : choice.kind === "day" && choice.day === null && button.value === "day";
      button.setAttribute("aria-pressed", String(isPressed));
    }
    const { since, until } = this.view;
    const day = /** @type {HTMLInputElement} */ (requireElement("day"));
    const shownDay = choice.kind === "range" ? formatDay(this.#now()) : formatDay(choice.kind === "day" ? since : (since + until) / 2);
    if (day.value !== shownDay && document.activeElement !== day) day.value = shownDay;
    setText(requireElement("interval"), formatChoice(choice, since, until));
  }

  #buttons() {
    return /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll("#ranges button"));
  }

  /** @param {number} factor */
  #zoom(factor) {
    const { since, until } = this.view;
    const now = this.#now();
    const isNowShown = since < now && now < until;
    const { since: from, until: to } = zoomView({ since, until }, factor, isNowShown ? now : (since + until) / 2);
    this.choose({ kind: "free", since: from, until: to });
  }

  #writeUrl() {
    clearTimeout(this.#urlTimer);
    const query = new URLSearchParams(location.search);
    writeChoice(query, this.#choice);
    const text = query.toString().replace(/=(?=&|$)/g, "");
    history.replaceState(null, "", `${location.pathname}${text === "" ? "" : `?${text}`}`);
  }
}

/** @param {Choice} choice @param {number} since @param {number} until */
function formatChoice(choice, since, until) {
  if (choice.kind === "range") return RANGE_TITLES[/** @type {keyof typeof RANGE_TITLES} */ (choice.name)];
  if (choice.kind === "day") {
    const day = dayFormat.format(since);
    return choice.day === null ? `Today, ${day}` : day;
  }
  return rangeFormat.formatRange(since, until);
}
