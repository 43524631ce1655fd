// Makes, rotates and revokes keys and shares, and signs browsers out, through the API. A secret is on the page until its reader has kept it, and no longer.

import { ask, copy, send, told } from "./asking.js";

const form = document.getElementById("create");
const made = document.getElementById("made");
// What the browser was told to come to, and not what the server believes: a proxy may stand between them.
const url = new URL("./", location.href).href.replace(/\/$/, "");

function snippet({ type, key }) {
  if (type === "read") return `curl -H "X-API-KEY: ${key}" ${url}/api/v1/items`;
  if (type === "admin") return `export PROGRESSBAR_URL=${url} PROGRESSBAR_API_KEY=${key}\nprogressbar-tracker keys list --url ${url}`;
  return [
    "from progressbar_tracker import configure, track",
    "",
    `configure(url="${url}", api_key="${key}")`,
    "",
    "for number in track(range(100), id=\"first-steps\"):",
    "    ...",
  ].join("\n");
}

function reveal(key) {
  document.getElementById("made-name").textContent = `The key of ${key.name}`;
  document.getElementById("secret").value = key.key;
  document.getElementById("snippet").textContent = snippet(key);
  made.hidden = false;
  form.hidden = true;
  document.getElementById("made-name").focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, type, group, days } = Object.fromEntries(new FormData(form));
  const body = { name: name.trim(), type };
  if (group.trim() !== "") body.group = group.trim();
  if (days !== "") body.expires_at = after(days);
  await once(form, async () => reveal(await send("POST", "api/v1/keys", body)));
});

const share = document.getElementById("share");
share.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { kind, name, days } = Object.fromEntries(new FormData(share));
  const body = { [kind]: name };
  if (days !== "") body.expires_at = after(days);
  await once(share, async () => {
    const { path, badge } = await send("POST", "api/v1/shares", body);
    document.getElementById("shared-name").textContent = `The link to ${name}`;
    document.getElementById("link").value = `${url}/${path}`;
    document.getElementById("markdown").value = `[![Progress](${url}/${badge})](${url}/${path})`;
    document.getElementById("shared").hidden = false;
    share.hidden = true;
    document.getElementById("shared-name").focus();
  });
});

function after(days) {
  return new Date(Date.now() + days * 86400000).toISOString();
}

// One key for one click.
async function once(form_, does) {
  const button = form_.querySelector("button");
  button.disabled = true;
  try {
    await does();
  } catch (error) {
    told(error);
  } finally {
    button.disabled = false;
  }
}

const DOES = {
  rotate: {
    what: (name) => `Give ${name} a new secret?`,
    why: "The old one works for 24 hours more. What the key owns stays its own.",
    yes: "Rotate",
    does: async (id) => reveal(await send("POST", `api/v1/keys/${id}/rotate`)),
  },
  revoke: {
    what: (name) => `Revoke ${name}?`,
    why: "Whoever uses it is refused from this moment on. It cannot be taken back. Its items stay.",
    yes: "Revoke",
    does: async (id) => {
      await send("DELETE", `api/v1/keys/${id}`);
      location.reload();
    },
  },
  unshare: {
    what: (name) => `Revoke the share of ${name}?`,
    why: "The link and its picture lead nowhere from this moment on.",
    yes: "Revoke",
    does: async (id) => {
      await send("DELETE", `api/v1/shares/${id}`);
      location.reload();
    },
  },
  "sign-out": {
    what: (name) => `Sign ${name} out?`,
    why: "Whoever sits at it has to sign in again.",
    yes: "Sign out",
    does: async (id) => {
      await send("DELETE", `api/v1/sessions/${id}`);
      location.reload();
    },
  },
};

document.addEventListener("click", async ({ target }) => {
  const button = target.closest("button[data-do]");
  const row = button?.closest("[data-key]");
  const { what, why, yes, does } = DOES[button?.dataset.do] ?? {};
  if (!row || !does || !(await ask(what(button.dataset.name), why, yes))) return;
  try {
    await does(row.dataset.key);
  } catch (error) {
    told(error);
  }
});

for (const id of ["kept", "link-kept"]) document.getElementById(id).addEventListener("click", () => location.replace("keys"));
// Coming back to the page with the browser's button must not show a secret again.
addEventListener("pagehide", () => {
  for (const id of ["secret", "link", "markdown"]) document.getElementById(id).value = "";
  document.getElementById("snippet").textContent = "";
});
copy(document);
