// The buttons of a row: dismiss or hide, the bell, and its menu. The board's list listens to their clicks.

import { Bell, hasBells } from "./bell.js";
import { createElement, createSvg } from "./dom.js";
import { titleOf } from "./format.js";

const CROSS = "M4.5 4.5l7 7M11.5 4.5l-7 7";
const CROSSED_EYE = "M1.8 8S4 4 8 4s6.2 4 6.2 4S12 12 8 12 1.8 8 1.8 8zM8 9.6a1.6 1.6 0 1 0 0-3.2 1.6 1.6 0 0 0 0 3.2zM3 13L13 3";
const DOTS = "M3 8h.01M8 8h.01M13 8h.01";

/** @type {WeakMap<Element, RowButtons>} */
const buttons = new WeakMap();

export class RowButtons {
  /**
   * Returns the buttons in a place; creates them for a new one.
   *
   * @param {Element} place
   */
  static in(place) {
    let found = buttons.get(place);
    if (found === undefined) {
      found = new RowButtons();
      place.append(found.#remove, ...(found.#bell === null ? [] : [found.#bell.node]), found.#menu);
      buttons.set(place, found);
    }
    return found;
  }

  #remove = createButton("", CROSS);
  #menu = createButton("menu", DOTS);
  #bell = hasBells() ? new Bell("row-button") : null;
  #text = "";

  constructor() {
    this.#menu.setAttribute("aria-haspopup", "menu");
    this.#menu.setAttribute("aria-expanded", "false");
  }

  /**
   * Names the buttons by an item.
   *
   * @param {WireItem} item
   * @param {"dismiss" | "hide" | null} removal what the first button does; null for no such button
   */
  show(item, removal) {
    const text = `${item.id} ${removal ?? ""} ${titleOf(item)}`;
    if (text === this.#text) return;
    this.#text = text;
    this.#bell?.show({ item: item.id }, titleOf(item));
    this.#remove.className = `row-button ${removal ?? ""}`;
    this.#remove.hidden = removal === null;
    // Different shapes: one deletes the item, the other only hides an entry.
    this.#remove.querySelector("path")?.setAttribute("d", removal === "hide" ? CROSSED_EYE : CROSS);
    const name = removal === "hide" ? "Hide" : "Dismiss";
    this.#remove.title = removal === "hide" ? "Hide, until it has another problem or another run" : name;
    this.#remove.setAttribute("aria-label", `${name} ${titleOf(item)}`);
    this.#menu.setAttribute("aria-label", `Menu of ${titleOf(item)}`);
  }
}

/** Creates the icon of a button that removes something. */
export function createCross() {
  return createIcon(CROSS);
}

/**
 * @param {string} name
 * @param {string} path
 */
function createButton(name, path) {
  return createElement("button", { type: "button", class: `row-button ${name}` }, createIcon(path));
}

/** @param {string} path */
function createIcon(path) {
  return createSvg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, createSvg("path", { d: path }));
}
