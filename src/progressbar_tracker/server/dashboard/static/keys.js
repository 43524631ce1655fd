// Creates, rotates and revokes keys, shares and ping tokens, and signs browsers out, through the API. A secret leaves the page when the reader has saved it.

import { confirm, enableCopyButtons, request, showError } from "./api.js";
import { requireElement } from "./dom.js";
import { handleSubmit, instantAfter } from "./forms.js";

/** @typedef {{ name: string, type: string, key: string }} NewKey */

const keyForm = /** @type {HTMLFormElement} */ (requireElement("key-form"));
const shareForm = /** @type {HTMLFormElement} */ (requireElement("share-form"));
const pingForm = /** @type {HTMLFormElement} */ (requireElement("ping-form"));
// The URL that this browser uses: behind a proxy, the server's own may differ.
const baseUrl = new URL("./", location.href).href.replace(/\/$/, "");

/** @param {string} id */
function requireField(id) {
  return /** @type {HTMLInputElement} */ (requireElement(id));
}

/** @param {NewKey} key */
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

/** @param {NewKey} key */
function showSecret(key) {
  requireElement("new-key-name").textContent = `The key of ${key.name}`;
  requireField("secret").value = key.key;
  requireElement("snippet").textContent = usageSnippet(key);
  requireElement("new-key").hidden = false;
  keyForm.hidden = true;
  requireElement("new-key-name").focus();
}

/**
 * Shows a section with new links in place of the form that made them.
 *
 * @param {string} name the section
 * @param {HTMLFormElement} form
 * @param {string} heading
 * @param {Record<string, string>} values of the fields, by id
 */
function showLinks(name, form, heading, values) {
  requireElement(`${name}-name`).textContent = heading;
  for (const [id, value] of Object.entries(values)) requireField(id).value = value;
  requireElement(name).hidden = false;
  form.hidden = true;
  requireElement(`${name}-name`).focus();
}

handleSubmit(keyForm, async ({ name, type, group, cell, days }) => {
  /** @type {Record<string, string>} */
  const body = { name: name.trim(), type };
  if (group.trim() !== "") body.group = group.trim();
  if (cell.trim() !== "") body.cell = cell.trim();
  if (days !== "") body.expires_at = instantAfter(days);
  showSecret(await request("POST", "api/v1/keys", body));
});

handleSubmit(shareForm, async ({ kind, name, days }) => {
  const body = { [kind]: name };
  if (days !== "") body.expires_at = instantAfter(days);
  const share = await request("POST", "api/v1/shares", body);
  const link = share.url ?? `${baseUrl}/${share.path}`;
  const badge = share.badge_url ?? `${baseUrl}/${share.badge}`;
  showLinks("new-share", shareForm, `The link to ${name}`, { link, markdown: `[![Progress](${badge})](${link})` });
});

handleSubmit(pingForm, async ({ name, group, days }) => {
  /** @type {Record<string, string>} */
  const body = { name: name.trim(), group: group.trim() };
  if (days !== "") body.expires_at = instantAfter(days);
  const token = await request("POST", "api/v1/ping-tokens", body);
  const url = token.url ?? `${baseUrl}/${token.path}`;
  showLinks("new-ping", pingForm, `The ping URL of ${body.name}`, { "ping-url": url, "ping-line": `curl -fsS -m 10 --retry 5 -o /dev/null ${url}/ID` });
});

/** @param {string} path */
async function deleteAndReload(path) {
  await request("DELETE", path);
  location.reload();
}

/**
 * @typedef {object} Action
 * @property {(name: string) => string} question
 * @property {string} consequence
 * @property {string} yes
 * @property {(id: string) => Promise<void>} run
 */

/** @type {Record<string, Action>} */
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
  "revoke-ping": {
    question: (name) => `Revoke the ping token of ${name}?`,
    consequence: "Its pings are refused at once. This cannot be undone. Its items stay.",
    yes: "Revoke",
    run: (id) => deleteAndReload(`api/v1/ping-tokens/${id}`),
  },
  "sign-out": {
    question: (name) => `Sign ${name} out?`,
    consequence: "Its user has to sign in again.",
    yes: "Sign out",
    run: (id) => deleteAndReload(`api/v1/sessions/${id}`),
  },
};

document.addEventListener("click", async ({ target }) => {
  const button = target instanceof Element ? target.closest("button[data-action]") : null;
  const row = button?.closest("[data-id]");
  if (!(button instanceof HTMLElement) || !(row instanceof HTMLElement)) return;
  const action = ACTIONS[button.dataset.action ?? ""];
  if (!action || !(await confirm(action.question(button.dataset.name ?? ""), action.consequence, action.yes))) return;
  try {
    await action.run(row.dataset.id ?? "");
  } catch (error) {
    showError(error);
  }
});

for (const id of ["key-saved", "link-saved", "ping-saved"]) requireElement(id).addEventListener("click", () => location.replace("keys"));
// The browser's back button must not show a secret again.
addEventListener("pagehide", () => {
  for (const id of ["secret", "link", "markdown", "ping-url", "ping-line"]) requireField(id).value = "";
  requireElement("snippet").textContent = "";
});
enableCopyButtons(document);
