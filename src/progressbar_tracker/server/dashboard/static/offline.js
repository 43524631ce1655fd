// The page that the service worker shows without a connection: loads the wanted page when the server answers.

const RETRY_INTERVAL = 4000;
const REQUEST_TIMEOUT = 10000;

const healthUrl = new URL(import.meta.url.replace(/static\/[^/]+\/[^/]*$/, "healthz"));
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

async function retry() {
  clearTimeout(timer);
  timer = setTimeout(retry, RETRY_INTERVAL * (0.75 + Math.random() / 2));
  try {
    const response = await fetch(healthUrl, { cache: "no-store", signal: AbortSignal.timeout(REQUEST_TIMEOUT) });
    if (response.ok) location.reload();
  } catch {
    // The next attempt is scheduled.
  }
}

document.getElementById("retry")?.addEventListener("click", () => location.reload());
addEventListener("online", retry);
document.addEventListener("visibilitychange", () => !document.hidden && retry());
retry();
