// Shared by the administrator's pages: API requests, the confirmation dialog, copy buttons.

/** Sends a request and returns the JSON of the response; throws an Error with the problem's detail. */
export async function request(method, path, body) {
  const init = { method, headers: {}, signal: AbortSignal.timeout(15000) };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(path, init);
  if (response.status === 401) location.reload(); // the session has ended; the server redirects to the sign-in page
  const result = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(result.detail ?? `The server answered ${response.status}.`);
  return result;
}

export function showError(error) {
  const banner = document.getElementById("problem");
  const isUnreachable = error instanceof TypeError || error.name === "TimeoutError";
  banner.textContent = isUnreachable ? "The server cannot be reached. Nothing is known to have changed." : error.message;
  banner.hidden = false;
  banner.scrollIntoView({ block: "nearest" });
}

/** Resolves to whether the reader confirmed. */
export function confirm(question, consequence, yes) {
  const dialog = document.getElementById("confirm");
  document.getElementById("problem").hidden = true;
  document.getElementById("confirm-question").textContent = question;
  document.getElementById("confirm-consequence").textContent = consequence;
  document.getElementById("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/** Makes each button with data-copy copy the element of that id. */
export function enableCopyButtons(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      const status = button.parentElement.querySelector(".copied");
      status.textContent = (await copyText(source)) ? "Copied." : "It is selected: press Ctrl+C.";
    });
  }
}

/** Copies the text of an input or element; returns false if it is only selected. */
export async function copyText(source) {
  try {
    // Available over HTTPS and from this machine only.
    await navigator.clipboard.writeText(source.value ?? source.textContent);
    return true;
  } catch {
    if (source.select) {
      source.focus();
      source.select();
    } else getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}
