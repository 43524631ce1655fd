// The keys of the board, and the dialog that lists them.

import { createElement } from "./dom.js";

/** @typedef {"search" | "next" | "previous" | "first" | "last" | "error" | "dismiss" | "copy" | "menu" | "undo" | "help"} Command */

/** @type {[command: Command | null, keys: string[], description: string][]} null: the browser's own */
const KEYS = [
  ["search", ["/"], "Search"],
  ["next", ["j", "ArrowDown"], "Next row"],
  ["previous", ["k", "ArrowUp"], "Previous row"],
  ["first", ["Home"], "First row"],
  ["last", ["End"], "Last row"],
  [null, ["Enter"], "Open the page of the item, fold the group, or go from the search to the first row"],
  ["error", ["e"], "Show or hide the error"],
  ["dismiss", ["x", "d"], "Dismiss the ended item, or hide what needs attention"],
  ["undo", ["u"], "Undo"],
  ["copy", ["c"], "Copy the link of the item"],
  ["menu", ["m"], "Open the menu of the item"],
  ["help", ["?"], "Show these keys"],
];
const KEY_NAMES = /** @type {Record<string, string>} */ ({ ArrowDown: "↓", ArrowUp: "↑" });
const COMMANDS = new Map(KEYS.flatMap(([command, keys]) => keys.map((key) => [key, command])));
const TEXT_FIELDS = "input, textarea, select, [contenteditable], dialog[open], [role=menu]";
// Elsewhere, these keys scroll the page.
const LIST_KEYS = new Set(["ArrowDown", "ArrowUp", "Home", "End"]);

/**
 * Returns the command of a key press, or null: in a text field, with a modifier, or if the key has another use there.
 *
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "altKey" | "metaKey" | "isComposing" | "defaultPrevented">} event
 * @param {Element | null} target
 * @returns {Command | null}
 */
export function findCommand(event, target) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.defaultPrevented) return null;
  if (target?.closest(TEXT_FIELDS)) return null;
  if (LIST_KEYS.has(event.key) && (!target?.closest("[data-key]") || target.closest("pre"))) return null;
  return COMMANDS.get(event.key) ?? null;
}

/**
 * Calls `perform` with the command of each key press; the key has no other effect if that returns true.
 *
 * @param {(command: Command) => boolean} perform
 */
export function installKeys(perform) {
  document.addEventListener("keydown", (event) => {
    const command = findCommand(event, event.target instanceof Element ? event.target : null);
    if (command === null) return;
    if (command === "help") showKeys();
    else if (!perform(command)) return;
    event.preventDefault();
  });
}

/** Shows the dialog with the keys. */
export function showKeys() {
  const dialog = createElement("dialog", { class: "keys-dialog", "aria-labelledby": "keys-title" },
    createElement("h2", { id: "keys-title" }, "Keyboard shortcuts"),
    createElement("dl", {}, ...KEYS.map(([, keys, description]) => createElement("div", {},
      createElement("dt", {}, ...keys.map((key) => createElement("kbd", {}, KEY_NAMES[key] ?? key))),
      createElement("dd", {}, description)))),
    createElement("form", { method: "dialog" }, createElement("button", { class: "secondary", autofocus: true }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // the backdrop
  document.body.append(dialog);
  dialog.showModal();
}
