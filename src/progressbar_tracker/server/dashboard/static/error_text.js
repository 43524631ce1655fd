// An error: in monospace at full width, with its own scroll bars and a copy button. A long one is folded to a summary.

import { createCopyButton } from "./clipboard.js";
import { createElement } from "./dom.js";

const MAX_SUMMARY_LENGTH = 120; // characters
const TRACEBACK_HEADING = "Traceback (most recent call last)";

/** @type {WeakMap<Element, string>} */
const shownErrors = new WeakMap();

/**
 * Returns the line that says what went wrong: the first one; the last one of a traceback.
 *
 * @param {string} error
 */
export function summarizeError(error) {
  const lines = error.split("\n").filter((line) => line.trim() !== "");
  const line = (lines[0] ?? "").startsWith(TRACEBACK_HEADING) ? lines[lines.length - 1] : lines[0];
  const text = (line ?? "").trim();
  return text.length > MAX_SUMMARY_LENGTH ? `${text.slice(0, MAX_SUMMARY_LENGTH - 1)}…` : text;
}

/**
 * Creates the element of an error.
 *
 * @param {string} error
 * @param {{ isOpen?: boolean }} [options] `isOpen`: with all lines of a long error, which is not folded
 * @returns {HTMLElement}
 */
export function createErrorText(error, { isOpen = false } = {}) {
  const text = error.trimEnd();
  const summary = summarizeError(text);
  if (summary === text.trim()) return createElement("div", { class: "error-text" }, createLines(text, true));
  const heading = createElement("bdi", {}, summary);
  if (!isOpen) return createElement("details", { class: "error-text" }, createElement("summary", {}, heading), createLines(text, false));
  const isFirst = text.trimStart().startsWith(summary.replace(/…$/, ""));
  return createElement("div", { class: "error-text" }, !isFirst && createElement("p", { class: "error-summary" }, heading), createLines(text, false));
}

/**
 * Shows an error in a container, or nothing for an empty one. The same error keeps its element, its fold and its scroll position.
 *
 * @param {Element} container
 * @param {string | null | undefined} error
 * @param {{ isOpen?: boolean }} [options]
 */
export function showError(container, error, options) {
  const text = error ?? "";
  if (shownErrors.get(container) === text) return;
  shownErrors.set(container, text);
  if (text === "") container.replaceChildren();
  else container.replaceChildren(createErrorText(text, options));
}

/**
 * @param {string} text
 * @param {boolean} isShort
 */
function createLines(text, isShort) {
  // Focusable, so that the keyboard scrolls it.
  const lines = createElement("pre", { tabindex: "0", role: "group", "aria-label": "Error" }, createElement("bdi", {}, text));
  const select = () => getSelection()?.selectAllChildren(lines);
  return createElement("div", { class: `error-lines${isShort ? " short" : ""}` }, lines, createCopyButton("Copy", () => text, select));
}
