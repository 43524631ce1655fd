// Reloads a page that stays open for months when the server has other scripts. Nothing else reloads it.

const CHECK_INTERVAL_MS = 5 * 60000;
const STATIC_PATTERN = /static\/([0-9a-f]{8,})\//;

/** Checks the version every few minutes, and when the network is back. */
export function watchVersion() {
  const version = readVersion(document.querySelector("script[src]")?.getAttribute("src") ?? "");
  if (version === null) return;
  const check = () => void checkVersion(version, () => location.reload());
  setInterval(check, CHECK_INTERVAL_MS);
  addEventListener("online", check);
}

/**
 * Compares the version of the page with that of the server.
 *
 * @param {string} version
 * @param {() => void} reload
 */
export async function checkVersion(version, reload) {
  try {
    const response = await fetch(location.href, { cache: "no-store", redirect: "error" });
    const current = response.ok ? readVersion(await response.text()) : null;
    if (current !== null && current !== version) reload();
  } catch {
    // The server restarts, or the session has ended: the page keeps what it shows.
  }
}

/** Returns the digest of the static files in a page or an address, or null. @param {string} text */
export function readVersion(text) {
  return STATIC_PATTERN.exec(text)?.[1] ?? null;
}
