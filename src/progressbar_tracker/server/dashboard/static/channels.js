// Tries channels, through the API: each with a message of its own, and says beside it what became of it.

import { send, told } from "./asking.js";

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-do=test]");
  const row = button?.closest("[data-key]");
  if (!row) return;
  const said = row.querySelector("[role=status]");
  document.getElementById("problem").hidden = true;
  button.disabled = true;
  said.textContent = "Sending…";
  try {
    const { delivered, detail } = await send("POST", `api/v1/channels/${encodeURIComponent(row.dataset.key)}/test`);
    said.textContent = delivered ? "Delivered." : `Not delivered: ${detail}`;
  } catch (error) {
    said.textContent = "";
    told(error);
  } finally {
    button.disabled = false;
  }
});
