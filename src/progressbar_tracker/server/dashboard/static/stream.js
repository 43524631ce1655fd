// The connection to the server: one stream of what changes, which all tabs of a browser share.
//
//   subscribe((message) => ...) -> leave()
//
// A message is { type, ... }:
//   snapshot    { time, items }               all there is, instead of what was known
//   change      { time, items, gone, ended }  items by their new state, ids that are gone, runs that have ended
//   beat        { time }                      nothing has changed, and the connection lives
//   offline     { time }                      the connection is lost; what is known is as of then (null: nothing is)
//   online      {}                            it is back
//   signed-out  {}                            the session is over
//
// The stream is read with fetch and not with EventSource, which neither tells a 401 from a server that is away, nor
// comes back at a time of our choosing, nor takes the id of the last event along when we open it anew.

const OPENING = 5000; // without an event for so long, ask for the list instead
const SILENCE = 45000; // three missed beats
const RETRY = 2000;
const SPREAD = 1000; // within which those come back whose streams ended together
const SLOWEST = 10000;
const POLL = 2000;
const WELCOME = 8000;

export class Stream {
  #root;
  #emit;
  #items = new Map();
  #time = null;
  #online = null; // not known yet
  #life = null; // from a start to the next stop
  #polling = null; // the same of the loop that asks for the list
  #aborted = new AbortController();
  #heard = 0; // when there was a sign of life, or an attempt
  #events = 0;
  #last = "";
  #opening;
  #watch;
  #skip = () => {};

  constructor(root, emit) {
    this.#root = root;
    this.#emit = emit;
  }

  /** Whether a page that was painted of the state of this event's id would be taken back in time by what is known. */
  isBehind(painted) {
    if (painted === "" || this.#last === "") return false;
    const [epoch, rev] = parted(painted);
    const [own, known] = parted(this.#last);
    return epoch !== own || known < rev; // of two lives of the server, the page has seen the later
  }

  /** Returns the messages that bring someone who joins to where the others are. */
  present() {
    const messages = [];
    if (this.#time !== null) messages.push({ type: "snapshot", time: this.#time, items: [...this.#items.values()] });
    if (this.#online === false) messages.push({ type: "offline", time: this.#time });
    return messages;
  }

  start() {
    if (this.#life !== null) return;
    this.#life = {};
    this.#awaitEvents();
    this.#watch = setInterval(() => this.#check(), SILENCE / 9);
    this.#run(this.#life);
  }

  stop() {
    this.#life = this.#polling = this.#online = this.#time = null;
    this.#last = "";
    this.#items.clear();
    clearInterval(this.#watch);
    clearTimeout(this.#opening);
    this.#opening = undefined;
    this.#aborted.abort();
    this.#skip();
  }

  /** Looks at once: the network is back, the lid is open, somebody looks at the page. */
  wake() {
    this.#check();
    this.#skip();
  }

  async #run(life) {
    let failures = 0;
    while (this.#life === life) {
      const before = this.#events;
      const ended = await this.#read();
      if (this.#life !== life) return;
      const spoke = this.#events !== before;
      if (spoke) failures = 0;
      if (ended && spoke) {
        // A stream has its time, and a server that stops ends it in good order.
        await this.#pause(SPREAD * Math.random());
        continue;
      }
      this.#awaitEvents();
      if (this.#polling === null) this.#tell(false);
      await this.#pause(Math.min(RETRY * 2 ** failures, SLOWEST) * (0.5 + Math.random()));
      failures = Math.min(failures + 1, 8);
    }
  }

  // Reads one stream to its end; false if it broke.
  async #read() {
    this.#aborted = new AbortController();
    const signal = this.#aborted.signal;
    this.#heard = Date.now();
    try {
      const headers = this.#last === "" ? {} : { "Last-Event-ID": this.#last };
      const reply = await fetch(new URL("api/v1/events", this.#root), { headers, signal, cache: "no-store" });
      if (reply.status === 401) return this.#signOut();
      if (!reply.ok) return false;
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
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
          this.#event(event);
        }
      }
    } catch {
      return false;
    }
  }

  #event(text) {
    let name = "";
    let data = "";
    for (const line of text.split("\n")) {
      if (line.startsWith("id: ")) this.#last = line.slice(4);
      else if (line.startsWith("event: ")) name = line.slice(7);
      else if (line.startsWith("data: ")) data = line.slice(6);
    }
    if (data === "") return;
    const told = JSON.parse(data);
    clearTimeout(this.#opening);
    this.#opening = undefined;
    this.#polling = null;
    this.#heard = Date.now();
    this.#events++;
    if (name === "snapshot") this.#snapshot(told);
    else if (name === "change") this.#change(told);
    else if (name === "hb") {
      this.#time = told.time;
      this.#emit({ type: "beat", time: told.time });
    }
    this.#tell(true);
  }

  #snapshot({ time, items }) {
    this.#time = time;
    this.#items = new Map(items.map((item) => [item.id, item]));
    this.#emit({ type: "snapshot", time, items });
  }

  #change({ time, items, gone, ended }) {
    this.#time = time;
    for (const id of gone) this.#items.delete(id);
    for (const item of items) this.#items.set(item.id, item);
    this.#emit({ type: "change", time, items, gone, ended });
  }

  // Some networks keep a stream back until it ends. A list they let through.
  #awaitEvents() {
    if (this.#opening === undefined && this.#polling === null) this.#opening = setTimeout(() => this.#poll(), OPENING);
  }

  async #poll() {
    this.#opening = undefined;
    const polling = (this.#polling = {});
    let etag = "";
    while (this.#polling === polling) {
      try {
        const headers = etag === "" ? {} : { "If-None-Match": etag };
        const signal = AbortSignal.timeout(SILENCE / 3);
        const reply = await fetch(new URL("api/v1/items?limit=10000", this.#root), { headers, signal, cache: "no-store" });
        const told = reply.status === 200 ? await reply.json() : null;
        if (this.#polling !== polling) return;
        if (reply.status === 401) return void this.#signOut();
        if (told === null && reply.status !== 304) throw new Error(`${reply.status}`);
        etag = reply.headers.get("ETag") ?? etag;
        this.#last = ""; // what is known now is newer than the last event
        const time = instant(reply);
        if (told !== null) this.#snapshot({ time, items: told.items });
        else this.#emit({ type: "beat", time: (this.#time = time) });
        this.#tell(true);
      } catch {
        if (this.#polling !== polling) return;
        etag = "";
        this.#tell(false);
      }
      await new Promise((resolve) => setTimeout(resolve, POLL * (0.75 + Math.random() / 2)));
    }
  }

  #tell(online) {
    if (this.#online === online) return;
    const before = this.#online;
    this.#online = online;
    if (!online) this.#emit({ type: "offline", time: this.#time });
    else if (before === false) this.#emit({ type: "online" });
  }

  #signOut() {
    this.stop();
    this.#emit({ type: "signed-out" });
    return false;
  }

  #check() {
    if (Date.now() - this.#heard > SILENCE) this.#aborted.abort();
  }

  #pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#skip = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function parted(id) {
  const at = id.lastIndexOf("-");
  return [id.slice(0, at), Number(id.slice(at + 1))];
}

function instant(reply) {
  const told = Date.parse(reply.headers.get("Date") ?? "");
  return new Date(Number.isNaN(told) ? Date.now() : told).toISOString();
}

export function subscribe(listener) {
  const root = new URL("../", import.meta.url);
  let port = null;
  let own = null;

  function alone() {
    if (own !== null) return;
    port?.close();
    port = null;
    own = new Stream(root, listener);
    own.start();
  }

  function join() {
    if (own !== null) return own.start();
    if (port === null) return;
    port.postMessage({ painted: document.body.dataset.painted ?? "" });
  }

  function leave() {
    if (own !== null) own.stop();
    else port?.postMessage("leave");
  }

  function wake() {
    if (document.hidden) return;
    if (own !== null) own.wake();
    else port?.postMessage("wake");
  }

  if (typeof SharedWorker === "undefined") alone();
  else {
    try {
      const worker = new SharedWorker(script(new URL("worker.js", import.meta.url)), { type: "module", name: "1" });
      // One that is older than module workers, or is not let in, never answers.
      const silent = setTimeout(alone, WELCOME);
      worker.onerror = () => {
        clearTimeout(silent);
        alone();
      };
      port = worker.port;
      port.onmessage = ({ data }) => {
        clearTimeout(silent);
        if (data.type !== "welcome" && own === null) listener(data);
      };
      join();
    } catch {
      alone();
    }
  }
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => event.persisted && join());
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", wake);
  return leave;
}

// The pages forbid scripts whose place is made up as they run; this one's is known.
function script(url) {
  if (typeof trustedTypes === "undefined") return url;
  return trustedTypes.createPolicy("worker", { createScriptURL: (text) => text }).createScriptURL(url.href);
}
