// Shared by the administrator's pages: API requests, the confirmation dialog, copy buttons.

import { copyText } from "./clipboard.js";
import { requireElement } from "./dom.js";

/**
 * Sends a request and returns the JSON of the response.
 *
 * @param {string} method
 * @param {string} path relative to the dashboard's root
 * @param {object} [body] sent as JSON
 * @returns {Promise<any>}
 * @throws {Error} with the problem's detail, for the reader
 * @throws {FieldError} with that of a field
 */
export async function request(method, path, body) {
  const content = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await fetch(path, { method, signal: AbortSignal.timeout(15000), ...content });
  if (response.status === 401) location.reload(); // the session has ended; the server redirects to the sign-in page
  const result = await response.json().catch(() => ({}));
  const detail = result.detail ?? `The server answered ${response.status}.`;
  if (!response.ok) throw typeof result.field === "string" ? new FieldError(detail, result.field) : new Error(detail);
  return result;
}

/** A value that the server refuses. */
export class FieldError extends Error {
  /**
   * @param {string} message
   * @param {string} field its name in the request
   */
  constructor(message, field) {
    super(message);
    this.field = field;
  }
}

/** @param {unknown} error */
export function showError(error) {
  const banner = requireElement("problem");
  const isUnreachable = error instanceof TypeError || (error instanceof DOMException && error.name === "TimeoutError");
  const text = error instanceof Error ? error.message : String(error);
  banner.textContent = isUnreachable ? "The server cannot be reached. Nothing is known to have changed." : text;
  banner.hidden = false;
  banner.scrollIntoView({ block: "nearest" });
}

/**
 * Asks the reader; resolves to whether the reader confirmed.
 *
 * @param {string} question
 * @param {string} consequence
 * @param {string} yes the label of the button that confirms
 * @returns {Promise<boolean>}
 */
export function confirm(question, consequence, yes) {
  const dialog = /** @type {HTMLDialogElement} */ (requireElement("confirm"));
  requireElement("problem").hidden = true;
  requireElement("confirm-question").textContent = question;
  requireElement("confirm-consequence").textContent = consequence;
  requireElement("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/**
 * Makes each button with data-copy copy the element of that id.
 *
 * @param {ParentNode} root
 */
export function enableCopyButtons(root) {
  for (const button of /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-copy]"))) {
    button.addEventListener("click", async () => {
      const source = requireElement(button.dataset.copy ?? "");
      const status = button.parentElement?.querySelector(".copied");
      const isCopied = await copySource(source);
      if (status) status.textContent = isCopied ? "Copied." : "It is selected: press Ctrl+C.";
    });
  }
}

/**
 * Copies the text of a field or another element; selects it if the browser refuses.
 *
 * @param {HTMLElement} source
 */
export async function copySource(source) {
  const isField = source instanceof HTMLInputElement || source instanceof HTMLTextAreaElement;
  if (await copyText(isField ? source.value : (source.textContent ?? ""))) return true;
  if (isField) {
    source.focus();
    source.select();
  } else getSelection()?.selectAllChildren(source);
  return false;
}
