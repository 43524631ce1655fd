// Copies texts, on pages over plain HTTP too, where browsers have no clipboard for scripts.

import { createElement } from "./dom.js";

/** The labels of a copy button after a click. */
export const COPY_RESULTS = { copied: "Copied", refused: "Press Ctrl+C" };

/**
 * Copies a text.
 *
 * @param {string} text
 * @returns {Promise<boolean>} false if the browser refused
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelection(text);
  }
}

/**
 * Copies a text as the selection of a field outside of the screen.
 *
 * @param {string} text
 */
function copySelection(text) {
  const focused = document.activeElement;
  const field = createElement("textarea", { readonly: true, class: "visually-hidden", "aria-hidden": "true" });
  field.value = text;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  return isCopied;
}

/**
 * Creates a button that copies a text. It says for a moment whether that succeeded.
 *
 * @param {string} label
 * @param {() => string} getText
 * @param {() => void} [select] selects the text on the page, for a browser that refuses to copy
 */
export function createCopyButton(label, getText, select) {
  const button = createElement("button", { type: "button", class: "secondary copy", "aria-live": "polite" }, label);
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  button.addEventListener("click", async () => {
    const isCopied = await copyText(getText());
    if (!isCopied) select?.();
    button.textContent = isCopied ? COPY_RESULTS.copied : COPY_RESULTS.refused;
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = label), 3000);
  });
  return button;
}
