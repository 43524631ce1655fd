// The notice at the bottom of the page: one text at a time, which may be undone for some seconds.

import { setText } from "./dom.js";

const TOAST_TIMEOUT_MS = 6000;

/** @typedef {{ undo?: () => void, expire?: () => void }} ToastActions */

export class Toast {
  #node;
  #label;
  #button;
  #announce;
  /** @type {ToastActions | null} */
  #actions = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {HTMLElement} node with a label and a button
   * @param {(text: string) => void} announce for screen readers
   */
  constructor(node, announce) {
    this.#node = node;
    [this.#label, this.#button] = /** @type {[HTMLElement, HTMLButtonElement]} */ (Array.from(node.children));
    this.#announce = announce;
    this.#button.addEventListener("click", () => this.undo());
  }

  /**
   * Shows a text, and an undo button if there is something to undo. `expire` is called once the reader can no longer undo;
   * the actions that are shown expire unless they are shown again.
   *
   * @param {string} text
   * @param {ToastActions} [actions]
   */
  show(text, actions = {}) {
    const former = this.#actions;
    this.#actions = actions;
    clearTimeout(this.#timer);
    if (former !== actions) former?.expire?.();
    if (this.#actions !== actions) return; // what expired has shown another text
    setText(this.#label, text);
    this.#button.hidden = actions.undo === undefined;
    this.#node.hidden = false;
    this.#announce(text);
    this.#timer = setTimeout(() => this.expire(), TOAST_TIMEOUT_MS);
  }

  /** Undoes what is shown; returns whether there was something to undo. */
  undo() {
    const undo = this.#actions?.undo;
    this.#close();
    undo?.();
    return undo !== undefined;
  }

  /** Ends the time to undo. */
  expire() {
    const expire = this.#actions?.expire;
    this.#close();
    expire?.();
  }

  focus() {
    if (!this.#button.hidden) this.#button.focus();
  }

  #close() {
    clearTimeout(this.#timer);
    this.#actions = null;
    if (this.#node.contains(document.activeElement)) document.getElementById("main")?.focus({ preventScroll: true });
    this.#node.hidden = true;
  }
}
