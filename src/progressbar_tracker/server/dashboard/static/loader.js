// Loads something once at a time, and again after a failure.

const RETRY_DELAY_MS = 5000;

export class Loader {
  #load;
  #timer = 0; // of the load that is going to start
  /** @type {AbortController | null} */
  #current = null; // of the load that is on its way
  #isStale = false; // whether what the current load returns may be out of date

  /** @param {(signal: AbortSignal) => Promise<void>} load */
  constructor(load) {
    this.#load = load;
  }

  /** Whether a load is on its way, or is going to start. */
  get isBusy() {
    return this.#current !== null || this.#timer !== 0;
  }

  /**
   * Starts a load after a delay, which replaces the current one: its result is of no use.
   *
   * @param {number} delay
   */
  start(delay) {
    clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => this.#run(), delay);
  }

  /** Loads again what may have changed. A load that is on its way ends first, as a slow one would never end otherwise. */
  refresh() {
    if (this.#current === null) this.start(0);
    else this.#isStale = true;
  }

  async #run() {
    this.#current?.abort();
    const current = (this.#current = new AbortController());
    this.#timer = 0;
    this.#isStale = false;
    let hasFailed = false;
    try {
      await this.#load(current.signal);
    } catch {
      hasFailed = true;
    }
    if (this.#current !== current) return;
    this.#current = null;
    if (this.#timer !== 0) return;
    if (hasFailed) this.start(RETRY_DELAY_MS);
    else if (this.#isStale) this.start(0);
  }
}
