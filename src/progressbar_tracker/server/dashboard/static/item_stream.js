// Keeps a list of items up to date: fetches it, then follows its event stream; polls the list if no stream passes.
//
// The list is compressed and the stream is not. So the list comes first, and the stream resumes after it. The stream is
// read with fetch and not with EventSource, which does not report a 401, does not let the page choose when to reconnect,
// and does not send the last event id when it is opened again.

import { EventParser } from "./event_parser.js";
import { StatusError, fetchItemList, responseTime } from "./item_list.js";

const FIRST_EVENT_TIMEOUT = 5000; // of an open stream; then the list is polled
const SILENCE_TIMEOUT = 45000; // three heartbeats
const RETRY_DELAY = 2000;
const MAX_RETRY_DELAY = 10000;
const RECONNECT_SPREAD = 1000; // streams that end together reconnect at random times within it
const POLL_INTERVAL = 2000;

export class ItemStream {
  #listUrl;
  #eventsUrl;
  #emit;
  #slots;
  /** @type {Map<string, WireItem>} */
  #items = new Map();
  /** @type {string | null} */
  #time = null; // of the known state
  /** @type {boolean | null} */
  #isOnline = null; // null until it is known
  /** @type {object | null} */
  #session = null; // identifies the time from a start to the next stop
  /** @type {object | null} */
  #polling = null; // identifies the loop that polls the list
  #abortController = new AbortController(); // of the list or stream that is read
  #isReading = false; // a stream
  #isRefused = false; // the last request
  #lastActivityAt = 0; // the time of the last event or attempt
  #eventCount = 0;
  #lastEventId = "";
  #etag = ""; // of the list, if that is the known state
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #firstEventTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #silenceTimer;
  #endPause = () => {};

  /**
   * @param {{ list: URL, events: URL }} urls
   * @param {import("./stream_slots.js").StreamSlots} slots Shared by all streams of this browser.
   * @param {(message: StreamMessage) => void} emit
   */
  constructor({ list, events }, slots, emit) {
    this.#listUrl = list;
    this.#eventsUrl = events;
    this.#slots = slots;
    this.#emit = emit;
  }

  /**
   * Returns the messages that bring a new subscriber up to date.
   *
   * @returns {StreamMessage[]}
   */
  currentMessages() {
    /** @type {StreamMessage[]} */
    const messages = [];
    if (this.#time !== null) messages.push({ type: "snapshot", time: this.#time, items: [...this.#items.values()] });
    if (this.#isOnline === false) messages.push({ type: "offline", time: this.#time });
    return messages;
  }

  start() {
    if (this.#session !== null) return;
    this.#session = {};
    this.#silenceTimer = setInterval(() => this.#abortIfSilent(), SILENCE_TIMEOUT / 9);
    this.#run(this.#session);
  }

  stop() {
    this.#session = this.#polling = this.#isOnline = this.#time = null;
    this.#lastEventId = this.#etag = "";
    this.#items.clear();
    clearInterval(this.#silenceTimer);
    this.#clearFirstEventTimer();
    this.#abortController.abort();
    this.#endPause();
  }

  /** Checks the connection at once: the network is back, the computer has resumed, or the page became visible. */
  wake() {
    this.#abortIfSilent();
    this.#endPause();
  }

  /** @param {object} session */
  async #run(session) {
    let failures = 0;
    while (this.#session === session) {
      const before = this.#eventCount;
      const isComplete = await this.#connect(session);
      if (this.#session !== session) return;
      const hadEvents = this.#eventCount !== before;
      if (hadEvents) failures = 0;
      if (isComplete && (hadEvents || failures === 0)) {
        // The server ends a stream in good order when it stops, when the stream reaches its maximum age, or its share ends.
        failures = hadEvents ? 0 : 1;
        await this.#pause(RECONNECT_SPREAD * (0.2 + 0.8 * Math.random()));
        continue;
      }
      if (this.#polling === null) this.#setOnline(false);
      await this.#pause(Math.min(RETRY_DELAY * 2 ** failures, MAX_RETRY_DELAY) * (0.5 + Math.random()));
      failures = Math.min(failures + 1, 8);
    }
  }

  /**
   * Fetches the list unless it is known, and reads one stream; returns true if the server ended that in good order.
   *
   * @param {object} session
   */
  async #connect(session) {
    try {
      if (this.#time === null && this.#polling === null) {
        await this.#fetchList(session);
        if (this.#session !== session) return false;
      }
      while (!this.#slots.acquire()) {
        if (this.#polling === null) this.#poll();
        await this.#pause(POLL_INTERVAL);
        if (this.#session !== session) return false;
      }
      this.#isReading = true;
      try {
        await this.#readStream();
        return true;
      } finally {
        this.#isReading = false;
        this.#slots.release();
      }
    } catch (error) {
      if (this.#session === session) this.#handleFailure(error);
      return this.#isRefused;
    }
  }

  /** @param {object} session */
  async #fetchList(session) {
    this.#abortController = new AbortController();
    const timer = setTimeout(() => this.#abortController.abort(), SILENCE_TIMEOUT);
    try {
      const list = await fetchItemList(this.#listUrl, this.#abortController.signal);
      if (this.#session === session && list.items !== null) this.#applyList(list);
    } finally {
      clearTimeout(timer);
    }
  }

  async #readStream() {
    this.#abortController = new AbortController();
    const signal = this.#abortController.signal;
    this.#lastActivityAt = Date.now();
    this.#startFirstEventTimer();
    /** @type {Record<string, string>} */
    const headers = this.#lastEventId === "" ? {} : { "Last-Event-ID": this.#lastEventId };
    const response = await fetch(this.#eventsUrl, { headers, signal, cache: "no-store" });
    if (!response.ok || response.body === null) throw new StatusError(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    let isOpen = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const event of parser.push(value)) {
        if (signal.aborted) return;
        this.#clearFirstEventTimer();
        this.#isRefused = false;
        this.#polling = null;
        this.#lastActivityAt = Date.now();
        // A stream that resumes may have no changes to report: its first sign of life has no data.
        if (!isOpen && this.#time !== null) this.#applyHeartbeat(responseTime(response));
        isOpen = true;
        this.#applyEvent(event);
        this.#setOnline(true);
      }
    }
  }

  /** @param {import("./event_parser.js").StreamEvent} event */
  #applyEvent({ id, name, data }) {
    if (id !== "") this.#lastEventId = id;
    if (data === "") return;
    this.#etag = "";
    this.#eventCount++;
    const event = JSON.parse(data);
    if (name === "snapshot") this.#applySnapshot(event);
    else if (name === "change") this.#applyChange(event);
    else if (name === "hb") this.#applyHeartbeat(event.time);
  }

  /** @param {import("./item_list.js").ItemList} list */
  #applyList(list) {
    this.#isRefused = false;
    this.#lastEventId = list.eventId;
    this.#etag = list.etag;
    this.#applySnapshot(list);
    this.#setOnline(true);
  }

  /** @param {{ time: string, items: WireItem[] }} snapshot */
  #applySnapshot({ time, items }) {
    this.#time = time;
    this.#items = new Map(items.map((item) => [item.id, item]));
    this.#emit({ type: "snapshot", time, items });
  }

  /** @param {{ time: string, items: WireItem[], gone: string[], ended: WireItem[] }} change */
  #applyChange({ time, items, gone, ended }) {
    this.#time = time;
    for (const id of gone) this.#items.delete(id);
    for (const item of items) this.#items.set(item.id, item);
    this.#emit({ type: "change", time, items, gone, ended });
  }

  /** @param {string} time */
  #applyHeartbeat(time) {
    this.#time = time;
    this.#emit({ type: "heartbeat", time });
  }

  // Some networks hold a stream back until it ends; a list passes.
  #startFirstEventTimer() {
    if (this.#firstEventTimer === undefined && this.#polling === null) {
      this.#firstEventTimer = setTimeout(() => this.#poll(), FIRST_EVENT_TIMEOUT);
    }
  }

  #clearFirstEventTimer() {
    clearTimeout(this.#firstEventTimer);
    this.#firstEventTimer = undefined;
  }

  async #poll() {
    this.#clearFirstEventTimer();
    const polling = (this.#polling = {});
    while (this.#polling === polling) {
      try {
        const list = await fetchItemList(this.#listUrl, AbortSignal.timeout(SILENCE_TIMEOUT), this.#etag);
        if (this.#polling !== polling) return;
        if (list.items === null) this.#applyHeartbeat(list.time);
        else this.#applyList(list);
        this.#setOnline(true);
      } catch (error) {
        if (this.#polling !== polling) return;
        this.#handleFailure(error);
        this.#setOnline(false);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL * (0.75 + Math.random() / 2)));
    }
  }

  /** @param {unknown} error */
  #handleFailure(error) {
    if (!(error instanceof StatusError)) return;
    // A new sign-in ends the former session: its streams may end before the browser has the new cookie. So the first
    // refusal does not count.
    if (error.status === 401 && this.#isRefused) this.#end("signed-out");
    this.#isRefused = error.status === 401;
    // A proxy may answer 404, too, while the server is down.
    if (error.status === 404 && error.isProblem) this.#end("not-found");
  }

  /** @param {"signed-out" | "not-found"} type */
  #end(type) {
    this.stop();
    this.#emit({ type });
  }

  /** @param {boolean} isOnline */
  #setOnline(isOnline) {
    if (this.#session === null || this.#isOnline === isOnline) return;
    const before = this.#isOnline;
    this.#isOnline = isOnline;
    if (!isOnline) this.#emit({ type: "offline", time: this.#time });
    else if (before === false) this.#emit({ type: "online" });
  }

  #abortIfSilent() {
    const silence = Math.abs(Date.now() - this.#lastActivityAt); // negative if the clock was set back
    if (this.#isReading && silence > SILENCE_TIMEOUT) this.#abortController.abort();
  }

  /** @param {number} milliseconds */
  #pause(milliseconds) {
    return /** @type {Promise<void>} */ (new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    }));
  }
}
