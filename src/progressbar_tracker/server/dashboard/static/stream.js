// The connection to the server: one event stream, shared by all tabs of a browser.
//
//   subscribe((message) => ...) -> leave()
//
// A message is { type, ... }:
//
// - snapshot { time, items }: all items; they replace the known ones.
// - change { time, items, gone, ended }: changed items, ids of removed items, ended runs.
// - heartbeat { time }: no change; the connection is alive.
// - offline { time }: the connection is lost; the known state is as of `time`, or null.
// - online {}: the connection is back.
// - signed-out {}: the session has ended.
//
// The stream is read with fetch and not with EventSource, which does not report a 401, does not let the page choose
// when to reconnect, and does not send the last event id when it is opened again.

const FIRST_EVENT_TIMEOUT = 5000; // without an event for so long, poll the list
const SILENCE_TIMEOUT = 45000; // three heartbeats
const RETRY_DELAY = 2000;
const MAX_RETRY_DELAY = 10000;
const RECONNECT_SPREAD = 1000; // streams that end together reconnect at random times within it
const POLL_INTERVAL = 2000;
const WORKER_TIMEOUT = 8000;

export class Stream {
  #root;
  #emit;
  #items = new Map();
  #time = null;
  #isOnline = null; // null until it is known
  #session = null; // identifies the time from a start to the next stop
  #polling = null; // identifies the loop that polls the list
  #abortController = new AbortController();
  #lastActivityAt = 0; // the time of the last event or attempt
  #eventCount = 0;
  #lastEventId = "";
  #firstEventTimer;
  #silenceTimer;
  #endPause = () => {};

  constructor(root, emit) {
    this.#root = root;
    this.#emit = emit;
  }

  /** Whether the known state is older than the first paint of a page with this event id. */
  isBehind(pageEventId) {
    if (pageEventId === "" || this.#lastEventId === "") return false;
    const [pageEpoch, pageRev] = parseEventId(pageEventId);
    const [epoch, rev] = parseEventId(this.#lastEventId);
    return pageEpoch !== epoch || rev < pageRev; // of two epochs, the page has the later one
  }

  /** Returns the messages that bring a new subscriber up to date. */
  currentMessages() {
    const messages = [];
    if (this.#time !== null) messages.push({ type: "snapshot", time: this.#time, items: [...this.#items.values()] });
    if (this.#isOnline === false) messages.push({ type: "offline", time: this.#time });
    return messages;
  }

  start() {
    if (this.#session !== null) return;
    this.#session = {};
    this.#startFirstEventTimer();
    this.#silenceTimer = setInterval(() => this.#abortIfSilent(), SILENCE_TIMEOUT / 9);
    this.#run(this.#session);
  }

  stop() {
    this.#session = this.#polling = this.#isOnline = this.#time = null;
    this.#lastEventId = "";
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

  async #run(session) {
    let failures = 0;
    while (this.#session === session) {
      const before = this.#eventCount;
      const isComplete = await this.#readStream();
      if (this.#session !== session) return;
      const hadEvents = this.#eventCount !== before;
      if (hadEvents) failures = 0;
      if (isComplete && hadEvents) {
        // The server ends a stream in good order when it stops, and when the stream reaches its maximum age.
        await this.#pause(RECONNECT_SPREAD * Math.random());
        continue;
      }
      this.#startFirstEventTimer();
      if (this.#polling === null) this.#setOnline(false);
      await this.#pause(Math.min(RETRY_DELAY * 2 ** failures, MAX_RETRY_DELAY) * (0.5 + Math.random()));
      failures = Math.min(failures + 1, 8);
    }
  }

  // Reads one stream; returns true if the server ended it, and false if it broke.
  async #readStream() {
    this.#abortController = new AbortController();
    const signal = this.#abortController.signal;
    this.#lastActivityAt = Date.now();
    try {
      const headers = this.#lastEventId === "" ? {} : { "Last-Event-ID": this.#lastEventId };
      const response = await fetch(new URL("api/v1/events", this.#root), { headers, signal, cache: "no-store" });
      if (response.status === 401) return this.#signOut();
      if (!response.ok) return false;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return true;
        let from = Math.max(text.length - 1, 0);
        text += value;
        for (let end; (end = text.indexOf("\n\n", from)) >= 0; from = 0) {
          const event = text.slice(0, end);
          text = text.slice(end + 2);
          if (signal.aborted) return false;
          this.#handleEvent(event);
        }
      }
    } catch {
      return false;
    }
  }

  #handleEvent(text) {
    let name = "";
    let data = "";
    for (const line of text.split("\n")) {
      if (line.startsWith("id: ")) this.#lastEventId = line.slice(4);
      else if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data = line.slice(6);
    }
    if (data === "") return;
    const event = JSON.parse(data);
    this.#clearFirstEventTimer();
    this.#polling = null;
    this.#lastActivityAt = Date.now();
    this.#eventCount++;
    if (name === "snapshot") this.#applySnapshot(event);
    else if (name === "change") this.#applyChange(event);
    else if (name === "hb") this.#applyHeartbeat(event.time);
    this.#setOnline(true);
  }

  #applySnapshot({ time, items }) {
    this.#time = time;
    this.#items = new Map(items.map((item) => [item.id, item]));
    this.#emit({ type: "snapshot", time, items });
  }

  #applyChange({ time, items, gone, ended }) {
    this.#time = time;
    for (const id of gone) this.#items.delete(id);
    for (const item of items) this.#items.set(item.id, item);
    this.#emit({ type: "change", time, items, gone, ended });
  }

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
    this.#firstEventTimer = undefined;
    const polling = (this.#polling = {});
    let etag = "";
    while (this.#polling === polling) {
      try {
        const headers = etag === "" ? {} : { "If-None-Match": etag };
        const signal = AbortSignal.timeout(SILENCE_TIMEOUT / 3);
        const response = await fetch(new URL("api/v1/items?limit=10000", this.#root), { headers, signal, cache: "no-store" });
        const list = response.status === 200 ? await response.json() : null;
        if (this.#polling !== polling) return;
        if (response.status === 401) return void this.#signOut();
        if (list === null && response.status !== 304) throw new Error(`${response.status}`);
        etag = response.headers.get("ETag") ?? etag;
        this.#lastEventId = ""; // the list is newer than the last event
        const time = responseTime(response);
        if (list !== null) this.#applySnapshot({ time, items: list.items });
        else this.#applyHeartbeat(time);
        this.#setOnline(true);
      } catch {
        if (this.#polling !== polling) return;
        etag = "";
        this.#setOnline(false);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL * (0.75 + Math.random() / 2)));
    }
  }

  #setOnline(isOnline) {
    if (this.#isOnline === isOnline) return;
    const before = this.#isOnline;
    this.#isOnline = isOnline;
    if (!isOnline) this.#emit({ type: "offline", time: this.#time });
    else if (before === false) this.#emit({ type: "online" });
  }

  #signOut() {
    this.stop();
    this.#emit({ type: "signed-out" });
    return false;
  }

  #abortIfSilent() {
    if (Date.now() - this.#lastActivityAt > SILENCE_TIMEOUT) this.#abortController.abort();
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function parseEventId(id) {
  const at = id.lastIndexOf("-");
  return [id.slice(0, at), Number(id.slice(at + 1))];
}

function responseTime(response) {
  const time = Date.parse(response.headers.get("Date") ?? "");
  return new Date(Number.isNaN(time) ? Date.now() : time).toISOString();
}

/** Subscribes a page through the shared worker, or with its own stream if there is none; returns a function that leaves. */
export function subscribe(listener) {
  const root = new URL("../", import.meta.url);
  let port = null;
  let ownStream = null;

  function startOwnStream() {
    if (ownStream !== null) return;
    port?.close();
    port = null;
    ownStream = new Stream(root, listener);
    ownStream.start();
  }

  function join() {
    if (ownStream !== null) return ownStream.start();
    if (port === null) return;
    port.postMessage({ eventId: document.body.dataset.eventId ?? "" });
  }

  function leave() {
    if (ownStream !== null) ownStream.stop();
    else port?.postMessage("leave");
  }

  function wake() {
    if (document.hidden) return;
    if (ownStream !== null) ownStream.wake();
    else port?.postMessage("wake");
  }

  if (typeof SharedWorker === "undefined") startOwnStream();
  else {
    try {
      const worker = new SharedWorker(trustedScriptUrl(new URL("worker.js", import.meta.url)), { type: "module", name: "2" });
      // A browser without module workers, or one that blocks the worker, never answers.
      const welcomeTimer = setTimeout(startOwnStream, WORKER_TIMEOUT);
      worker.onerror = () => {
        clearTimeout(welcomeTimer);
        startOwnStream();
      };
      port = worker.port;
      port.onmessage = ({ data }) => {
        clearTimeout(welcomeTimer);
        if (data.type !== "welcome" && ownStream === null) listener(data);
      };
      join();
    } catch {
      startOwnStream();
    }
  }
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => event.persisted && join());
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", wake);
  return leave;
}

// The content security policy requires trusted types for script URLs; this URL is a constant.
function trustedScriptUrl(url) {
  if (typeof trustedTypes === "undefined") return url;
  return trustedTypes.createPolicy("worker", { createScriptURL: (text) => text }).createScriptURL(url.href);
}
