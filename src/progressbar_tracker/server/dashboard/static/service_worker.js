// The service worker, served as /sw.js: without a connection to the server, it shows a page that waits for it.
//
// It stores the files of that page, and never data or pages of a reader: those go to the network only, and nothing is left
// after a sign-out. install.js registers it with the digest of its version in its URL.
//
// Only the installation writes to a cache. The browser installs one worker at a time, so that no cache comes back after the
// next worker has deleted it. The browser itself keeps the other static files: they are immutable.

const worker = /** @type {any} */ (self); // its types and those of pages exclude each other

const ROOT = worker.location.pathname.replace(/[^/]*$/, "");
const DIGEST = /^\?([0-9a-f]+)$/.exec(worker.location.search)?.[1] ?? "none";
const STATIC_PATH = `${ROOT}static/${DIGEST}/`;
const CACHE_PREFIX = `progress ${ROOT} `; // other servers of this origin have their own root
const CACHE_NAME = `${CACHE_PREFIX}${DIGEST}`;
const SHELL_FILES = ["app.css", "icon.svg", "offline.js"].map((name) => STATIC_PATH + name);
const UNREACHABLE_STATUSES = [502, 504]; // of a proxy, never of the server

/** @param {any} event */
function install(event) {
  event.waitUntil(fillCache());
  worker.skipWaiting();
}

async function fillCache() {
  const cache = await caches.open(CACHE_NAME);
  await cache.addAll(SHELL_FILES);
}

/** @param {any} event */
function activate(event) {
  event.waitUntil(Promise.all([
    deleteCaches((name) => name !== CACHE_NAME),
    worker.clients.claim(),
    // The request for a page need not wait until this worker has started.
    worker.registration.navigationPreload?.enable(),
  ]));
}

/** @param {(name: string) => boolean} isUnwanted */
async function deleteCaches(isUnwanted) {
  const names = (await caches.keys()).filter((name) => name.startsWith(CACHE_PREFIX) && isUnwanted(name));
  await Promise.all(names.map((name) => caches.delete(name)));
}

/** @param {any} event */
function handleFetch(event) {
  const { request } = event;
  if (request.method !== "GET") return;
  // Every navigation is answered here: its preloaded response would be lost, and a link that works once with it.
  if (request.mode === "navigate") event.respondWith(fetchPage(event));
  else if (isShellFile(request.url)) event.respondWith(fetchShellFile(request));
}

/** @param {string} url */
function isShellFile(url) {
  return SHELL_FILES.some((path) => url === worker.location.origin + path);
}

/** @param {any} event */
async function fetchPage(event) {
  try {
    /** @type {Response} */
    const response = (await event.preloadResponse) ?? (await fetch(event.request));
    if (UNREACHABLE_STATUSES.includes(response.status)) return createOfflinePage();
    event.waitUntil(leaveIfWithdrawn());
    return response;
  } catch {
    return createOfflinePage();
  }
}

/** @param {Request} request */
async function fetchShellFile(request) {
  return (await caches.match(request.url, { cacheName: CACHE_NAME, ignoreVary: true })) ?? (await fetch(request));
}

// Unregisters this worker if the server does not offer it any more: a browser keeps it in that case.
async function leaveIfWithdrawn() {
  const response = await fetch(`${ROOT}sw.js`, { method: "HEAD", cache: "no-store" });
  if (response.status !== 404) return;
  await worker.registration.unregister();
  await deleteCaches(() => true);
}

function createOfflinePage() {
  const html = `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>offline - Progress</title>
  <link rel="icon" href="${STATIC_PATH}icon.svg">
  <link rel="stylesheet" href="${STATIC_PATH}app.css">
  <script type="module" src="${STATIC_PATH}offline.js"></script>
</head>
<body>
<header class="top"><p class="brand"><a href="${ROOT}"><img class="mark" src="${STATIC_PATH}icon.svg" alt="">Progress</a></p></header>
<main id="main" class="narrow">
<h1>No connection to the server</h1>
<p role="status">Trying again… The page opens when the server answers.</p>
<p><button id="retry" type="button">Try again now</button></p>
</main>
</body>
</html>`;
  const policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";
  const headers = { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, "Cache-Control": "no-store" };
  return new Response(html, { status: 503, headers });
}

// Web Push. A message replaces the one of the same item that is shown; an older message does not replace a newer one.

/** @param {any} event */
function handlePush(event) {
  const message = event.data.json();
  event.waitUntil(Promise.all([showMessage(message), message.renew === true && renewSubscription()]));
}

/** @param {any} event the push service has ended the subscription, or replaced it */
function handleChange(event) {
  event.waitUntil(renewSubscription());
}

// Subscribes this browser with the key of the server, and moves to its endpoint what it follows: all subscriptions of its
// session. A page does the same (push.js), and repeats what fails here, such as without a connection or after a sign-out.
async function renewSubscription() {
  const { pushManager } = worker.registration;
  await worker.navigator.locks.request(`push ${ROOT}`, async () => {
    const { subscriptions } = await request("GET", "subscriptions");
    if (subscriptions.length === 0) return;
    const { public_key: key } = await request("GET", "key");
    const before = await pushManager.getSubscription();
    if (before !== null && encodeKey(before.options.applicationServerKey) !== key) await before.unsubscribe();
    const { endpoint, keys } = (await pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key })).toJSON();
    for (const { subscription_id: name } of subscriptions) {
      await request("PATCH", `subscriptions/${name}`, { endpoint, ...keys, server_key: key });
    }
  });
}

/**
 * @param {string} method
 * @param {string} path
 * @param {object} [body]
 */
async function request(method, path, body) {
  const content = body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  const response = await fetch(`${ROOT}api/v1/push/${path}`, { method, cache: "no-store", ...content });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

/** @param {ArrayBuffer} key */
function encodeKey(key) {
  const text = btoa(String.fromCharCode(...new Uint8Array(key)));
  return text.replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** @param {{ at: number, tag: string, title: string, text: string, url: string }} message */
async function showMessage({ at, tag, title, text, url }) {
  const shown = await worker.registration.getNotifications({ tag });
  if (shown.some((/** @type {any} */ notification) => notification.data.at > at)) return;
  const icon = `${STATIC_PATH}icon-192.png`;
  const data = { at, url: new URL(url, worker.location.origin + ROOT).href };
  await worker.registration.showNotification(title, { body: text, tag, renotify: true, timestamp: at * 1000, icon, data });
}

/** @param {any} event */
function openMessage(event) {
  event.notification.close();
  event.waitUntil(openPage(event.notification.data.url));
}

// Opens a page of this dashboard, in a tab that shows it already if there is one.
/** @param {string} url */
async function openPage(url) {
  if (!url.startsWith(worker.location.origin + ROOT)) return;
  const tabs = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const tab = tabs.find((/** @type {any} */ client) => client.url === url);
  if (tab === undefined) await worker.clients.openWindow(url);
  else await tab.focus();
}

worker.addEventListener("push", handlePush);
worker.addEventListener("pushsubscriptionchange", handleChange);
worker.addEventListener("notificationclick", openMessage);
worker.addEventListener("install", install);
worker.addEventListener("activate", activate);
worker.addEventListener("fetch", handleFetch);
