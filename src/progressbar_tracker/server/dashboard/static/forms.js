// Forms of the administrator's pages: their fields, and one request at a time.

import { showError } from "./api.js";

/**
 * Returns the values of the fields of a form, by name.
 *
 * @param {HTMLFormElement} form
 * @returns {Record<string, string>}
 */
export function readForm(form) {
  return Object.fromEntries(Array.from(new FormData(form), ([name, value]) => [name, String(value)]));
}

/**
 * Returns the instant after a number of days, for `expires_at`.
 *
 * @param {string} days
 */
export function instantAfter(days) {
  return new Date(Date.now() + Number(days) * 86400000).toISOString();
}

/**
 * Runs an action when a form is submitted. Its button is disabled meanwhile: a double click creates one record.
 *
 * @param {HTMLFormElement} form
 * @param {(fields: Record<string, string>) => Promise<void>} action
 * @param {(error: unknown) => void} [onError]
 */
export function handleSubmit(form, action, onError = showError) {
  const button = /** @type {HTMLButtonElement} */ (form.querySelector("button:not([type=button])"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await action(readForm(form));
    } catch (error) {
      onError(error);
    } finally {
      button.disabled = false;
    }
  });
}
