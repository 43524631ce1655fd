// Web Push: subscribes this browser, and sends the server what it follows. Loaded with the first click on a bell.

import { request } from "./api.js";
import { BROWSER_KEY, showFollowed, subjectKey } from "./bell.js";
import { createElement } from "./dom.js";
import { ROOT } from "./urls.js";

const READY_TIMEOUT = 10000; // milliseconds
const DIGEST_LENGTH = 16;

/** @typedef {import("./bell.js").Subject} Subject */
/** @typedef {{ subscription_id: string, item: string | null, run_id: string | null, group: string | null, events: string[], browser: string }} Subscription */
/** @typedef {{ endpoint: string, p256dh: string, auth: string, server_key: string }} BrowserFields */

const EVENTS = [
  ["end", "It ends, in whatever way"],
  ["failure", "It fails"],
  ["stuck", "It makes no progress, or gives no sign of life"],
];
const DEFAULT_EVENTS = ["end", "stuck"];

/** Returns why this browser cannot be notified; `""` if it can. */
export function findObstacle() {
  if (!isSecureContext) {
    return "Browsers accept notifications over HTTPS only, or from their own machine. This page came over plain HTTP: its server needs TLS.";
  }
  if (!("serviceWorker" in navigator && "PushManager" in globalThis && "Notification" in globalThis)) {
    return "This browser has no notifications for pages. On an iPhone or iPad, add this page to the home screen, and open it there.";
  }
  if (Notification.permission === "denied") {
    return "This browser blocks the notifications of this page. Allow them in the settings of the page, and press the bell again.";
  }
  return "";
}

/**
 * @param {Subject} subject
 * @param {string} name
 * @param {boolean} isRunPage
 */
export async function openDialog(subject, name, isRunPage) {
  const obstacle = findObstacle();
  const own = obstacle === "" ? await listFollowed().catch(() => []) : [];
  const dialog = createElement("dialog", { class: "stop-dialog bell-dialog", "aria-labelledby": "bell-title" });
  const title = createElement("h2", { id: "bell-title" }, "Notify this browser about ", createElement("bdi", {}, name));
  dialog.addEventListener("close", () => dialog.remove(), { once: true });
  if (obstacle === "") dialog.append(createForm(dialog, title, subject, isRunPage, own));
  else dialog.append(createExplanation(title, obstacle));
  document.body.append(dialog);
  dialog.showModal();
}

/**
 * @param {HTMLElement} title
 * @param {string} obstacle
 */
function createExplanation(title, obstacle) {
  return createElement("form", { method: "dialog" }, title,
    createElement("p", { class: "obstacle" }, obstacle),
    createElement("p", {}, createElement("a", { href: new URL("handbook/how-to/browser", ROOT).href }, "More about notifications")),
    createElement("p", { class: "actions" }, createElement("button", { autofocus: true }, "Close")));
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {HTMLElement} title
 * @param {Subject} subject
 * @param {boolean} isRunPage
 * @param {Subscription[]} own
 */
function createForm(dialog, title, subject, isRunPage, own) {
  const { item, run_id: runId, group } = subject;
  const find = (/** @type {Subject} */ one) => own.find((record) => subjectKey(toSubject(record)) === subjectKey(one));
  const ofRun = runId === undefined ? undefined : find(subject);
  const existing = ofRun ?? find({ item, group });
  const events = existing?.events ?? DEFAULT_EVENTS;
  const boxes = EVENTS.map(([value, text]) => {
    const box = createElement("input", { type: "checkbox", name: "events", value });
    box.checked = events.includes(value);
    return createElement("label", {}, box, ` ${text}`);
  });
  const onlyRun = createElement("input", { type: "checkbox", name: "run" });
  onlyRun.checked = existing === undefined ? isRunPage : existing === ofRun;
  const problem = createElement("p", { class: "notice", role: "alert", hidden: true });
  const form = createElement("form", {},
    title,
    createElement("fieldset", {}, createElement("legend", {}, "When"), ...boxes),
    runId !== undefined && createElement("p", {}, createElement("label", {}, onlyRun, " Only this run")),
    problem,
    createElement("p", { class: "actions" },
      createElement("button", { type: "submit" }, existing === undefined ? "Notify me" : "Save"),
      existing !== undefined && createElement("button", { type: "button", class: "secondary", click: () => run(() => unfollow(existing)) }, "Stop notifying"),
      createElement("button", { type: "button", class: "secondary", click: () => dialog.close() }, "Cancel")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = [...new FormData(form).getAll("events")].map(String);
    const target = onlyRun.checked ? subject : { item, group };
    run(async () => {
      if (chosen.length === 0) throw new Error("Choose at least one event.");
      await follow(target, chosen);
      if (existing !== undefined && subjectKey(toSubject(existing)) !== subjectKey(target)) await unfollow(existing);
    });
  });

  /** @param {() => Promise<void>} act */
  async function run(act) {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    try {
      await act();
      showFollowed((await listFollowed()).map(toSubject));
      dialog.close();
    } catch (error) {
      problem.textContent = error instanceof Error ? error.message : String(error);
      problem.hidden = false;
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
  }
  return form;
}

/** @param {Subscription} record */
function toSubject({ item, run_id, group }) {
  return { item: item ?? undefined, run_id: run_id ?? undefined, group: group ?? undefined };
}

/** @param {string} [path] */
function apiUrl(path = "") {
  return new URL(`api/v1/push/subscriptions${path}`, ROOT).href;
}

/** @returns {Promise<Subscription[]>} the subscriptions of this session, which is that of this browser */
async function listFollowed() {
  if (localStorage.getItem(BROWSER_KEY) === null) return [];
  return (await request("GET", apiUrl())).subscriptions;
}

/**
 * @param {Subject} subject
 * @param {string[]} events
 */
async function follow(subject, events) {
  if ((await Notification.requestPermission()) !== "granted") throw new Error(findObstacle() || "The browser was not allowed to show notifications.");
  await request("POST", apiUrl(), { ...(await subscribe()), events, ...subject });
}

/** @param {Subscription} record */
async function unfollow(record) {
  await request("DELETE", apiUrl(`/${record.subscription_id}`));
}

/**
 * Subscribes this browser with the key of the server, and moves to its endpoint what it follows with a former one.
 *
 * The service worker does the same between two visits: see renewSubscription() there.
 *
 * @returns {Promise<BrowserFields>}
 */
async function subscribe() {
  const timeout = new Promise((_, reject) => setTimeout(() => reject(new Error("The service worker of this page does not start.")), READY_TIMEOUT));
  const { pushManager } = /** @type {ServiceWorkerRegistration} */ (await Promise.race([navigator.serviceWorker.ready, timeout]));
  return navigator.locks.request(`push ${ROOT.pathname}`, async () => {
    const { public_key: key } = await request("GET", new URL("api/v1/push/key", ROOT).href);
    const before = await pushManager.getSubscription();
    if (before !== null && encodeKey(before.options.applicationServerKey) !== key) await before.unsubscribe();
    const subscription = await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key }).catch((error) => {
      throw new Error(`The push service of this browser refused: ${error instanceof Error ? error.message : error}`);
    });
    const { endpoint, keys } = /** @type {any} */ (subscription.toJSON());
    const fields = { endpoint, ...keys, server_key: key };
    localStorage.setItem(BROWSER_KEY, "subscribed");
    await moveFollowed(fields);
    return fields;
  });
}

/** @param {BrowserFields} fields */
async function moveFollowed(fields) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(fields.endpoint));
  const digest = [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, DIGEST_LENGTH);
  for (const record of await listFollowed()) {
    if (record.browser !== digest) await request("PATCH", apiUrl(`/${record.subscription_id}`), fields);
  }
}

/**
 * Shows what this browser follows. A subscription that has expired is renewed; one without permission is ended.
 */
export async function synchronize() {
  try {
    const own = await listFollowed();
    if (own.length > 0 && findObstacle() === "" && Notification.permission === "granted") await subscribe();
    else {
      for (const record of own) await unfollow(record);
      if (own.length > 0) localStorage.removeItem(BROWSER_KEY);
    }
    showFollowed((await listFollowed()).map(toSubject));
  } catch (error) {
    console.info("Without notifications:", error);
  }
}

/** @param {ArrayBuffer | null} key */
function encodeKey(key) {
  const text = btoa(String.fromCharCode(...new Uint8Array(key ?? new ArrayBuffer(0))));
  return text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}
