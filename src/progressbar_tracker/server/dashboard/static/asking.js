// What the administrator's pages have in common: to ask the server, to ask the reader once more, to copy a text.

export async function send(method, path, body) {
  const init = { method, headers: {}, signal: AbortSignal.timeout(15000) };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  const reply = await fetch(path, init);
  if (reply.status === 401) location.reload(); // the session is over; the server shows where to sign in
  const document_ = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(document_.detail ?? `The server answered ${reply.status}.`);
  return document_;
}

export function told(error) {
  const problem = document.getElementById("problem");
  const unheard = error instanceof TypeError || error.name === "TimeoutError";
  problem.textContent = unheard ? "The server cannot be reached. Nothing is known to have changed." : error.message;
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
}

/** Resolves to whether the reader said yes. */
export function ask(what, why, yes) {
  const dialog = document.getElementById("ask");
  document.getElementById("problem").hidden = true;
  document.getElementById("ask-what").textContent = what;
  document.getElementById("ask-why").textContent = why;
  document.getElementById("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/** Lets each button with data-copy copy the element of that id. */
export function copy(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const source = document.getElementById(button.dataset.copy);
      const said = button.parentElement.querySelector(".copied");
      said.textContent = (await copied(source)) ? "Copied." : "It is selected: press Ctrl+C.";
    });
  }
}

async function copied(source) {
  try {
    // Only where the page came over HTTPS or from this machine.
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
