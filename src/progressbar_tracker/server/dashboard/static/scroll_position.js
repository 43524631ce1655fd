// The place where the reader has left the board, for the way back: the browser cannot restore it, because the rows come later.

const STORAGE_KEY = "progress-places";
const MAX_PLACES = 20; // of the boards that were left last: those of groups and filters have their own URLs
const RESTORE_TIMEOUT_MS = 10000; // from the first rows on; a page that grows later stays where it is

/** @typedef {[url: string, top: number]} Place */

/** @type {number | null} */
let wantedTop = null; // of a page that is not there yet, because it is too short
let reachedTop = 0; // where the last attempt has led
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;

/** Remembers the place when the page is left, and finds the one to restore if the reader has come back or reloads the page. */
export function rememberScroll() {
  history.scrollRestoration = "manual"; // else the browser scrolls as far as the page that has no rows yet
  const [navigation] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
  if (navigation?.type === "back_forward" || navigation?.type === "reload") {
    wantedTop = readPlaces().find(([url]) => url === location.href)?.[1] ?? null;
  }
  addEventListener("pagehide", savePlace);
}

/** Scrolls to the remembered place, as far as the page is long enough. Each part of the page that is added continues it. */
export function restoreScroll() {
  if (wantedTop === null) return;
  timer ??= setTimeout(() => (wantedTop = null), RESTORE_TIMEOUT_MS);
  if (hasScrolled()) {
    wantedTop = null;
    return;
  }
  scrollTo({ top: wantedTop, behavior: "instant" });
  dispatchEvent(new Event("scroll")); // at once, so that no frame is empty
  reachedTop = scrollY;
  if (reachedTop > wantedTop - 1) wantedTop = null;
}

// Whether the reader has scrolled since the last attempt.
function hasScrolled() {
  return Math.abs(scrollY - reachedTop) > 1;
}

function savePlace() {
  const top = wantedTop === null || hasScrolled() ? scrollY : wantedTop; // a page that is left too early keeps the former place
  const others = readPlaces().filter(([url]) => url !== location.href);
  try {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify([...others, [location.href, top]].slice(-MAX_PLACES)));
  } catch {
    // Without storage, the way back leads to the top.
  }
}

/** @returns {Place[]} */
function readPlaces() {
  try {
    return JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");
  } catch {
    return []; // access may be denied
  }
}
