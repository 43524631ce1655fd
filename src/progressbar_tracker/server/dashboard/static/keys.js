// Creates, rotates and revokes keys and shares, and signs browsers out, through the API. A secret leaves the page when the reader has saved it.

import { confirm, enableCopyButtons, request, showError } from "./api.js";

const keyForm = document.getElementById("key-form");
const shareForm = document.getElementById("share-form");
// The URL that this browser uses: behind a proxy, the server's own may differ.
const baseUrl = new URL("./", location.href).href.replace(/\/$/, "");

function usageSnippet({ type, key }) {
  if (type === "read") return `curl -H "X-API-KEY: ${key}" ${baseUrl}/api/v1/items`;
  if (type === "admin") return `export PROGRESSBAR_URL=${baseUrl} PROGRESSBAR_API_KEY=${key}\nprogressbar-tracker keys list --url ${baseUrl}`;
  return [
    "from progressbar_tracker import configure, track",
    "",
    `configure(url="${baseUrl}", api_key="${key}")`,
    "",
    "for number in track(range(100), id=\"first-steps\"):",
    "    ...",
  ].join("\n");
}

function showSecret(key) {
  document.getElementById("new-key-name").textContent = `The key of ${key.name}`;
  document.getElementById("secret").value = key.key;
  document.getElementById("snippet").textContent = usageSnippet(key);
  document.getElementById("new-key").hidden = false;
  keyForm.hidden = true;
  document.getElementById("new-key-name").focus();
}

keyForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, type, group, days } = Object.fromEntries(new FormData(keyForm));
  const body = { name: name.trim(), type };
  if (group.trim() !== "") body.group = group.trim();
  if (days !== "") body.expires_at = instantAfter(days);
  await runOnce(keyForm, async () => showSecret(await request("POST", "api/v1/keys", body)));
});

shareForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { kind, name, days } = Object.fromEntries(new FormData(shareForm));
  const body = { [kind]: name };
  if (days !== "") body.expires_at = instantAfter(days);
  await runOnce(shareForm, async () => {
    const { path, badge } = await request("POST", "api/v1/shares", body);
    document.getElementById("new-share-name").textContent = `The link to ${name}`;
    document.getElementById("link").value = `${baseUrl}/${path}`;
    document.getElementById("markdown").value = `[![Progress](${baseUrl}/${badge})](${baseUrl}/${path})`;
    document.getElementById("new-share").hidden = false;
    shareForm.hidden = true;
    document.getElementById("new-share-name").focus();
  });
});

function instantAfter(days) {
  return new Date(Date.now() + days * 86400000).toISOString();
}

// Disables the form's button meanwhile: a double click creates one key.
async function runOnce(form, action) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    showError(error);
  } finally {
    button.disabled = false;
  }
}

async function deleteAndReload(path) {
  await request("DELETE", path);
  location.reload();
}

const ACTIONS = {
  rotate: {
    question: (name) => `Give ${name} a new secret?`,
    consequence: "The old one works for another 24 hours. The key keeps its items.",
    yes: "Rotate",
    run: async (id) => showSecret(await request("POST", `api/v1/keys/${id}/rotate`)),
  },
  revoke: {
    question: (name) => `Revoke ${name}?`,
    consequence: "Clients that use it are refused at once. This cannot be undone. Its items stay.",
    yes: "Revoke",
    run: (id) => deleteAndReload(`api/v1/keys/${id}`),
  },
  unshare: {
    question: (name) => `Revoke the share of ${name}?`,
    consequence: "The link and its picture stop working at once.",
    yes: "Revoke",
    run: (id) => deleteAndReload(`api/v1/shares/${id}`),
  },
  "sign-out": {
    question: (name) => `Sign ${name} out?`,
    consequence: "Its user has to sign in again.",
    yes: "Sign out",
    run: (id) => deleteAndReload(`api/v1/sessions/${id}`),
  },
};

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-action]");
  const row = button?.closest("[data-id]");
  const { question, consequence, yes, run } = ACTIONS[button?.dataset.action] ?? {};
  if (!row || !run || !(await confirm(question(button.dataset.name), consequence, yes))) return;
  try {
    await run(row.dataset.id);
  } catch (error) {
    showError(error);
  }
});

for (const id of ["key-saved", "link-saved"]) document.getElementById(id).addEventListener("click", () => location.replace("keys"));
// The browser's back button must not show a secret again.
addEventListener("pagehide", () => {
  for (const id of ["secret", "link", "markdown"]) document.getElementById(id).value = "";
  document.getElementById("snippet").textContent = "";
});
enableCopyButtons(document);
