// The empty board: creates a write key, shows it once, and copies it.

import { copySource } from "./api.js";
import { requireElement as $ } from "./dom.js";

const getSecretField = () => /** @type {HTMLInputElement} */ ($("secret"));

/**
 * Offers to create a key.
 *
 * @param {(isPaused: boolean) => void} setPaused called with true while a key is shown, and with false when the reader has
 *   saved it
 */
export function offerFirstKey(setPaused) {
  const button = /** @type {HTMLButtonElement} */ ($("create-key").firstElementChild);
  $("create-key").hidden = false;
  button.addEventListener("click", () => createKey(button, setPaused));
  $("secret").addEventListener("focus", () => getSecretField().select());
  $("copy-key").addEventListener("click", copyKey);
  $("key-saved").addEventListener("click", () => {
    getSecretField().value = "";
    $("snippet-key").textContent = "your write key";
    $("new-key").hidden = true;
    $("create-key").hidden = false;
    setPaused(false);
  });
}

/**
 * @param {HTMLButtonElement} button
 * @param {(isPaused: boolean) => void} setPaused
 */
async function createKey(button, setPaused) {
  button.disabled = true;
  try {
    const response = await fetch("api/v1/keys", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ type: "write", name: "first steps" }),
    });
    const result = await response.json();
    if (!response.ok) throw new Error(result.detail);
    setPaused(true);
    getSecretField().value = result.key;
    $("snippet-key").textContent = result.key;
    $("create-key").hidden = true;
    $("new-key").hidden = false;
    $("secret").focus();
  } catch (error) {
    $("announcement").textContent = `No key was made: ${error instanceof Error ? error.message : error}`;
    button.textContent = "No key was made. Try again";
  }
  button.disabled = false;
}

async function copyKey() {
  const isCopied = await copySource(getSecretField());
  $("copy-key").textContent = isCopied ? "Copied" : "Press Ctrl+C";
  $("announcement").textContent = isCopied ? "The key is copied" : "The key is selected: copy it";
}
