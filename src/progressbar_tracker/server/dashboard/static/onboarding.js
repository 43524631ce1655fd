// The empty board: creates a write key, shows it once, and copies it.

import { copyText } from "./api.js";

const $ = (id) => document.getElementById(id);

/** Offers to create a key; calls `setPaused` with true while one is shown, and with false when the reader has saved it. */
export function offerFirstKey(setPaused) {
  const [button] = $("make").children;
  $("make").hidden = false;
  button.addEventListener("click", () => createKey(button, setPaused));
  $("key").addEventListener("focus", () => $("key").select());
  $("copy").addEventListener("click", copyKey);
  $("kept").addEventListener("click", () => {
    $("key").value = "";
    $("key-place").textContent = "your write key";
    $("made").hidden = true;
    $("make").hidden = false;
    setPaused(false);
  });
}

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
    $("key").value = result.key;
    $("key-place").textContent = result.key;
    $("make").hidden = true;
    $("made").hidden = false;
    $("key").focus();
  } catch (error) {
    $("news").textContent = `No key was made: ${error.message}`;
    button.textContent = "No key was made. Try again";
  }
  button.disabled = false;
}

async function copyKey() {
  const isCopied = await copyText($("key"));
  $("copy").textContent = isCopied ? "Copied" : "Press Ctrl+C";
  $("news").textContent = isCopied ? "The key is copied" : "The key is selected: copy it";
}
