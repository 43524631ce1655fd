// Sends a test message to a channel through the API, and shows the result beside the button.

import { request, showError } from "./api.js";

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-action=test]");
  const row = button?.closest("[data-id]");
  if (!row) return;
  const status = row.querySelector("[role=status]");
  document.getElementById("problem").hidden = true;
  button.disabled = true;
  status.textContent = "Sending…";
  try {
    const { delivered, detail } = await request("POST", `api/v1/channels/${encodeURIComponent(row.dataset.id)}/test`);
    status.textContent = delivered ? "Delivered." : `Not delivered: ${detail}`;
  } catch (error) {
    status.textContent = "";
    showError(error);
  } finally {
    button.disabled = false;
  }
});
