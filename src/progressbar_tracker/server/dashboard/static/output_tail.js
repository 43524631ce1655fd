// The last lines of a run's output. They are requested while the reader sees them, because the stream does not have them.

import { createElement, setText } from "./dom.js";
import { ROOT } from "./urls.js";

const POLL_INTERVAL = 2000; // milliseconds between two requests while the run is running
const FIRST_POLL_INTERVAL = 10000; // milliseconds, while there is no output
const REQUEST_TIMEOUT = 10000; // milliseconds
const BOTTOM_TOLERANCE = 4; // pixels

export class OutputTail {
  #text = createElement("pre", { class: "tail", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Output" });
  section = createElement(
    "section",
    { class: "item-tail", hidden: true },
    createElement("h2", {}, "Output"),
    this.#text,
    createElement("p", { class: "muted" }, "The last lines that the program has sent. Secrets are masked by their form, which can miss some."),
  );
  #id;
  #mayRead;
  /** @type {string | null} the run whose output is shown */
  #runId = null;
  #isRunning = false;
  #isSeen = false;
  #etag = "";
  #requestedAt = -Infinity;
  #request = new AbortController();

  /**
   * @param {string} id
   * @param {boolean} mayRead whether the reader has the permission
   */
  constructor(id, mayRead) {
    this.#id = id;
    this.#mayRead = mayRead;
    if (mayRead) new IntersectionObserver((entries) => this.#setSeen(entries.at(-1)?.isIntersecting ?? false)).observe(this.section);
  }

  /**
   * Shows the output of a run. It is requested once, and again while the run is running.
   *
   * @param {WireItem} run
   */
  show(run) {
    if (!this.#mayRead) return;
    const isRunning = run.status === "running";
    const hasEnded = this.#isRunning && !isRunning;
    this.#isRunning = isRunning;
    if (run.run_id === this.#runId && !hasEnded) return;
    if (run.run_id !== this.#runId) this.#setText("", "");
    this.#runId = run.run_id;
    void this.#load();
  }

  /** Requests the output again if it is visible and due. */
  tick() {
    if (!this.#mayRead || !this.#isRunning || document.hidden || !(this.#isSeen || this.section.hidden)) return;
    const interval = this.section.hidden ? FIRST_POLL_INTERVAL : POLL_INTERVAL;
    if (performance.now() - this.#requestedAt >= interval) void this.#load();
  }

  /** @param {boolean} isSeen */
  #setSeen(isSeen) {
    this.#isSeen = isSeen;
    this.tick();
  }

  async #load() {
    this.#requestedAt = performance.now();
    this.#request.abort();
    const { signal } = (this.#request = new AbortController());
    const url = new URL(`api/v1/tails/${encodeURIComponent(this.#id)}`, ROOT);
    url.searchParams.set("run_id", this.#runId ?? "");
    // Browsers resolve dots in a path, encoded or not. The id is a part of the path, so these have no output here.
    if (this.#id === "." || this.#id === "..") return;
    try {
      const response = await fetch(url, {
        cache: "no-store",
        headers: this.#etag === "" ? {} : { "If-None-Match": this.#etag },
        signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT)]),
      });
      if (response.ok) this.#setText((await response.json()).tail, response.headers.get("ETag") ?? "");
    } catch {
      // The next interval tries again; the stream reports a lost connection.
    }
  }

  /**
   * @param {string} text
   * @param {string} etag
   */
  #setText(text, etag) {
    const { scrollHeight, scrollTop, clientHeight } = this.#text;
    const isAtEnd = scrollHeight - scrollTop - clientHeight <= BOTTOM_TOLERANCE;
    this.#etag = etag;
    this.section.hidden = text === "";
    setText(this.#text, text);
    if (isAtEnd) this.#text.scrollTop = this.#text.scrollHeight;
  }
}
