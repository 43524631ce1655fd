// Requests to stop a run: who may make one, the confirmation, and the request. Its effect arrives by the stream.

import { createElement, requireElement, setText } from "./dom.js";
import { titleOf } from "./format.js";
import { ROOT } from "./urls.js";

const REQUEST_TIMEOUT = 20000; // milliseconds

/** @typedef {{ stopScope?: string, userName?: string }} StopRights */

/**
 * Returns whether the reader may stop the run of an item. Owners are compared by name, so the server may still refuse.
 *
 * @param {WireItem} item
 * @param {StopRights} rights
 */
export function mayStop(item, { stopScope, userName }) {
  const isPermitted = stopScope === "all" || (stopScope === "own" && item.owner === userName);
  return isPermitted && item.status === "running" && item.stoppable;
}

/** The button of an item's page, and the line with the result of a click. */
export class StopButton {
  node = createElement("button", { type: "button", class: "secondary", hidden: true, click: () => this.#stop() }, "Stop…");
  result = createElement("p", { class: "notice", role: "alert", hidden: true });
  #rights;
  /** @type {WireItem | null} */
  #item = null;

  /** @param {StopRights} rights */
  constructor(rights) {
    this.#rights = rights;
  }

  /**
   * Offers to stop the run of an item. While a request waits for the program, the button keeps the focus.
   *
   * @param {WireItem | null} item
   */
  show(item) {
    this.#item = item !== null && mayStop(item, this.#rights) ? item : null;
    if (this.#item === null && this.node === document.activeElement) requireElement("main").focus({ preventScroll: true });
    this.node.hidden = this.#item === null;
    setText(this.node, this.#isRequested ? "Stop requested" : "Stop…");
    this.node.setAttribute("aria-disabled", String(this.#isRequested));
  }

  get #isRequested() {
    return this.#item !== null && this.#item.stop_requested_at !== null;
  }

  #stop() {
    if (this.#item === null || this.#isRequested) return;
    void stopRun(this.#item, (text) => {
      this.result.hidden = false;
      setText(this.result, text);
    });
  }
}

/**
 * Asks the reader, and requests to stop the run if the reader confirms.
 *
 * @param {WireItem} item
 * @param {(text: string) => void} report shows the result
 */
export async function stopRun(item, report) {
  if (!(await confirmStop(item))) return;
  try {
    await requestStop(item);
    report(`The stop of ${titleOf(item)} is requested.`);
  } catch (error) {
    const isRefusal = error instanceof Error && error.name === "Error";
    report(`The stop was not requested: ${isRefusal ? error.message : "the server cannot be reached."}`);
  }
}

/**
 * @param {WireItem} item
 * @returns {Promise<boolean>}
 */
function confirmStop(item) {
  const dialog = createElement("dialog", { class: "stop-dialog", "aria-labelledby": "stop-question" },
    createElement("form", { method: "dialog" },
      createElement("h2", { id: "stop-question" }, "Stop ", createElement("bdi", {}, titleOf(item)), "?"),
      createElement("p", {}, "The program ends its loop before the next item, or gets a signal. The run ends as stopped, with your name."),
      createElement("p", { class: "actions" },
        createElement("button", { value: "yes" }, "Stop the run"), " ",
        createElement("button", { value: "", class: "secondary", autofocus: true }, "Cancel"))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "yes");
  }, { once: true }));
}

/**
 * @param {WireItem} item
 * @throws {Error} with the reason of the server
 */
async function requestStop({ id, run_id }) {
  const response = await fetch(new URL(`api/v1/items/${encodeURIComponent(id)}:stop`, ROOT), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ run_id }), // a run that has begun meanwhile is not stopped
    signal: AbortSignal.timeout(REQUEST_TIMEOUT),
  });
  if (response.ok) return;
  const { detail } = await response.json().catch(() => ({}));
  throw new Error(detail ?? `the server answered ${response.status}.`);
}
