// Sends a test message to a channel through the API, and shows the result beside the button.

import { request, showError } from "./api.js";
import { requireElement } from "./dom.js";

/**
 * @param {HTMLButtonElement} button
 * @param {string} channelId
 * @param {Element} status
 */
async function testChannel(button, channelId, status) {
  requireElement("problem").hidden = true;
  button.disabled = true;
  status.textContent = "Sending…";
  try {
    const { delivered, detail } = await request("POST", `api/v1/channels/${encodeURIComponent(channelId)}/test`);
    status.textContent = delivered ? "Delivered." : `Not delivered: ${detail}`;
  } catch (error) {
    status.textContent = "";
    showError(error);
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("click", ({ target }) => {
  const button = target instanceof Element ? target.closest("button[data-action=test]") : null;
  const row = button?.closest("[data-id]");
  const status = row?.querySelector("[role=status]");
  if (!(button instanceof HTMLButtonElement) || !(row instanceof HTMLElement) || !status) return;
  void testChannel(button, row.dataset.id ?? "", status);
});
