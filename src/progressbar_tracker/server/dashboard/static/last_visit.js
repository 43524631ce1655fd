// Remembers when the viewer last looked at the page, for each browser and user.

const PREFIX = "progress:last-visit:";
const MIN_ABSENCE_MS = 5 * 60000; // a shorter absence is part of the same visit

export class LastVisit {
  #key;
  #now;
  /** @type {number | null} */
  #at;
  /** @type {number | null} */
  #hiddenAt = null;

  /**
   * @param {string} viewer the name of a user, or the path of a share
   * @param {{ now: () => number, isReload: boolean, listen: boolean, onChange: () => void }} options
   */
  constructor(viewer, { now, isReload, listen, onChange }) {
    this.#key = PREFIX + viewer;
    this.#now = now;
    // A reload continues the visit.
    this.#at = readInstant(isReload ? sessionStorage : localStorage, this.#key);
    write(sessionStorage, this.#key, this.#at);
    if (!listen) return;
    addEventListener("pagehide", () => this.leave());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.leave();
      else if (this.return()) onChange();
    });
  }

  /** The time of the last visit before this one, or null. */
  get at() {
    return this.#at;
  }

  /** Ends the visit: the page is hidden or left. */
  leave() {
    this.#hiddenAt = this.#now();
    write(localStorage, this.#key, this.#hiddenAt);
  }

  /** Continues, or begins a new visit after a longer absence; returns whether it is a new one. */
  return() {
    const hiddenAt = this.#hiddenAt;
    this.#hiddenAt = null;
    if (hiddenAt === null || this.#now() - hiddenAt < MIN_ABSENCE_MS) return false;
    this.#at = hiddenAt;
    write(sessionStorage, this.#key, hiddenAt);
    return true;
  }
}

/** Whether the page has been loaded again. */
export function isReloaded() {
  const [navigation] = /** @type {PerformanceNavigationTiming[]} */ (performance.getEntriesByType("navigation"));
  return navigation?.type === "reload";
}

/** @param {Storage} storage @param {string} key */
function readInstant(storage, key) {
  try {
    const instant = Number(storage.getItem(key) ?? NaN);
    return Number.isFinite(instant) && instant > 0 ? instant : null;
  } catch {
    return null;
  }
}

// Storage may be full or forbidden.
/** @param {Storage} storage @param {string} key @param {number | null} value */
function write(storage, key, value) {
  try {
    if (value === null) storage.removeItem(key);
    else storage.setItem(key, String(Math.round(value)));
  } catch {
    // Without storage each visit is the first one.
  }
}
