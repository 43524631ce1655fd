// The menu of a row: links, copies, share, stop, dismiss. One menu serves all rows; it exists while it is open.

import { copyText } from "./clipboard.js";
import { createElement } from "./dom.js";
import { itemUrl, titleOf } from "./format.js";

const MARGIN_PX = 8;

/** @typedef {{ label: string, href?: string, act?: () => unknown }} Action */

/**
 * @typedef {object} MenuOptions
 * @property {boolean} isAdmin whether the reader may share items
 * @property {(text: string) => void} confirm says that something was copied
 * @property {(item: WireItem) => boolean} mayDismiss
 * @property {(item: WireItem) => void} dismiss
 * @property {(() => unknown) | null} [stop]
 * @property {(() => unknown) | null} [notify]
 * @property {(() => void) | null} [hide] hides what needs attention
 */

/**
 * Returns the absolute URL of an item's page.
 *
 * @param {{ id: string }} item
 */
export function itemLink({ id }) {
  return new URL(itemUrl(id), document.baseURI).href;
}

/**
 * Copies a text, and says so. Where the browser refuses, the text is shown to be copied by hand.
 *
 * @param {string} text
 * @param {string} name
 * @param {(text: string) => void} confirm
 */
export async function copyAndConfirm(text, name, confirm) {
  if (await copyText(text)) confirm(`${name} copied.`);
  else prompt(`Copy the ${name.toLowerCase()}:`, text);
}

/**
 * Returns what the menu of an item offers.
 *
 * @param {WireItem} item
 * @param {MenuOptions} options
 * @returns {Action[]}
 */
export function listActions(item, { isAdmin, confirm, mayDismiss, dismiss, hide = null, stop = null, notify = null }) {
  const link = itemLink(item);
  /** @type {Action[]} */
  const actions = [
    { label: "Open", href: itemUrl(item.id) },
    { label: "Copy link", act: () => copyAndConfirm(link, "Link", confirm) },
    { label: "Copy id", act: () => copyAndConfirm(item.id, "Id", confirm) },
  ];
  if (typeof navigator.share === "function") {
    // Rejected if the reader closes the dialog of the system.
    actions.push({ label: "Send link…", act: () => navigator.share({ title: titleOf(item), url: link }).catch(() => {}) });
  }
  if (isAdmin) actions.push({ label: "Share publicly…", href: `keys?share=${encodeURIComponent(item.id)}#shares` });
  if (notify !== null) actions.push({ label: "Notify me…", act: notify });
  if (stop !== null) actions.push({ label: "Stop…", act: stop });
  if (hide !== null) actions.push({ label: "Hide here", act: hide });
  if (mayDismiss(item)) actions.push({ label: "Dismiss", act: () => dismiss(item) });
  return actions;
}

/**
 * Opens the menu of an item below its button, and closes another one. Escape, Tab and a click elsewhere close it.
 *
 * @param {HTMLElement} button
 * @param {string} title
 * @param {Action[]} actions
 */
export function openMenu(button, title, actions) {
  const wasOpen = button.getAttribute("aria-expanded") === "true";
  closeMenu();
  if (wasOpen) return;
  const menu = createElement("div", { class: "row-menu", role: "menu", "aria-label": title, popover: "auto" });
  for (const { label, href, act } of actions) {
    const attributes = { role: "menuitem", tabindex: "-1", click: () => (closeMenu(), act?.()) };
    menu.append(href === undefined
      ? createElement("button", { type: "button", ...attributes }, label)
      : createElement("a", { href, ...attributes }, label));
  }
  menu.addEventListener("keydown", (event) => moveFocus(menu, event));
  menu.addEventListener("toggle", (event) => {
    if (/** @type {ToggleEvent} */ (event).newState !== "closed") return;
    const hadFocus = menu.contains(document.activeElement) || document.activeElement === document.body;
    menu.remove();
    button.setAttribute("aria-expanded", "false");
    if (hadFocus) button.focus({ preventScroll: true });
  });
  (document.querySelector("main") ?? document.body).append(menu); // within a landmark
  button.setAttribute("aria-expanded", "true");
  menu.showPopover();
  place(menu, button.getBoundingClientRect());
  /** @type {HTMLElement | null} */ (menu.firstElementChild)?.focus({ preventScroll: true });
  addEventListener("scroll", closeMenu, { once: true, passive: true });
}

/** Closes the open menu. */
export function closeMenu() {
  /** @type {HTMLElement | null} */ (document.querySelector(".row-menu:popover-open"))?.hidePopover();
}

/**
 * @param {HTMLElement} menu
 * @param {DOMRect} anchor
 */
function place(menu, anchor) {
  const { offsetWidth, offsetHeight } = menu;
  const fitsBelow = anchor.bottom + offsetHeight + MARGIN_PX <= innerHeight;
  const top = fitsBelow ? anchor.bottom : Math.max(anchor.top - offsetHeight, MARGIN_PX);
  const left = Math.min(Math.max(anchor.right - offsetWidth, MARGIN_PX), innerWidth - offsetWidth - MARGIN_PX);
  menu.style.top = `${Math.round(top)}px`;
  menu.style.left = `${Math.round(left)}px`;
}

/**
 * @param {HTMLElement} menu
 * @param {KeyboardEvent} event
 */
function moveFocus(menu, event) {
  const items = /** @type {HTMLElement[]} */ (Array.from(menu.children));
  const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const last = items.length - 1;
  const targets = /** @type {Record<string, number>} */ ({
    ArrowDown: at === last ? 0 : at + 1, ArrowUp: at <= 0 ? last : at - 1, Home: 0, End: last,
  });
  if (event.key === "Tab") closeMenu();
  else if (event.key in targets) {
    items[targets[event.key]].focus();
    event.preventDefault();
  } else if (event.key.length === 1 && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const key = event.key.toLowerCase();
    const found = [...items.slice(at + 1), ...items.slice(0, at + 1)].find((item) => item.textContent?.toLowerCase().startsWith(key));
    if (found !== undefined && key !== " ") found.focus();
  }
}
