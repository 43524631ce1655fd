// The connection of a page to the server: subscribes to a list of items, through a worker that all tabs share.
//
//   subscribe((message) => ...) -> leave()
//
// A message is { type, ... }; `StreamMessage` in types.d.ts has the types:
//
// - snapshot { time, items }: all items; they replace the known ones.
// - change { time, items, gone, ended }: changed items, ids of removed items, ended runs.
// - heartbeat { time }: no change; the connection is alive.
// - offline { time }: the connection is lost; the known state is as of `time`, or null.
// - online {}: the connection is back.
// - signed-out {}: the session has ended.
// - not-found {}: the list does not exist, or not any more: the share has ended.

import { ItemStream } from "./item_stream.js";
import { StreamSlots } from "./stream_slots.js";

const WORKER_TIMEOUT = 8000;
const WORKER_NAME = "3"; // the version of the messages between pages and worker

/** The dashboard's root. The scripts are in `static/`, or in `static/<digest>/`. */
const ROOT = new URL(import.meta.url.replace(/static\/(?:[^/]+\/)?[^/]*$/, ""));

/** @type {any} */
let workerPolicy;

/** @typedef {{ list: URL, events: URL, leavesHidden: boolean }} Source */
/** @typedef {{ setListener: (listener: (message: StreamMessage) => void) => void, leave: () => void }} Subscription */

/** @type {Subscription | null} */
let prepared = null;

/** Subscribes to the list of this page. Its messages wait for the listener of `subscribe`. */
export function prepare() {
  prepared = openSubscription(findSource());
}

/**
 * Subscribes a page to its list of items, until it is closed: that of a share, or all items.
 *
 * @param {(message: StreamMessage) => void} listener
 * @returns {() => void} A function that leaves.
 */
export function subscribe(listener) {
  const subscription = prepared ?? openSubscription(findSource());
  prepared = null;
  subscription.setListener(listener);
  return subscription.leave;
}

/**
 * Returns the source of this page. Pages of a share leave while they are hidden: a browser may have many of them.
 *
 * @returns {Source}
 */
function findSource() {
  const share = /^s\/[^/]+/.exec(location.pathname.slice(ROOT.pathname.length));
  return {
    list: new URL(share === null ? "api/v1/items?limit=10000" : `${share[0]}/items`, ROOT),
    events: new URL(share === null ? "api/v1/events" : `${share[0]}/events`, ROOT),
    leavesHidden: share !== null,
  };
}

/**
 * @param {Source} source
 * @returns {Subscription}
 */
function openSubscription(source) {
  const { leavesHidden } = source;
  /** @type {StreamMessage[]} */
  const waiting = []; // for the listener
  /** @type {((message: StreamMessage) => void) | null} */
  let listener = null;
  /** @type {MessagePort | null} */
  let port = null;
  /** @type {ItemStream | null} */
  let ownStream = null;
  let isJoined = false;
  let hasLeft = false; // for good

  /** @param {StreamMessage} message */
  function emit(message) {
    if (listener === null) waiting.push(message);
    else listener(message);
  }

  function startOwnStream() {
    if (ownStream !== null) return;
    port?.close();
    port = null;
    ownStream = new ItemStream(source, new StreamSlots(1), emit);
    if (isJoined) ownStream.start();
    update();
  }

  function join() {
    if (isJoined) return;
    isJoined = true;
    ownStream?.start();
    port?.postMessage({ type: "join", list: source.list.href, events: source.events.href });
  }

  function leave() {
    if (!isJoined) return;
    isJoined = false;
    ownStream?.stop();
    port?.postMessage({ type: "leave" });
  }

  // Joins, leaves, or checks the connection of a page that became visible.
  function update() {
    if (document.hidden) {
      // Without a shared worker, each tab has a connection of its own.
      if (leavesHidden || ownStream !== null) leave();
    } else if (!isJoined && !hasLeft) join();
    else if (ownStream !== null) ownStream.wake();
    else port?.postMessage({ type: "wake" });
  }

  try {
    const worker = new SharedWorker(trustedWorkerUrl(), { type: "module", name: WORKER_NAME });
    // A browser without module workers, or one that blocks the worker, never answers.
    const welcomeTimer = setTimeout(startOwnStream, WORKER_TIMEOUT);
    worker.onerror = () => {
      clearTimeout(welcomeTimer);
      startOwnStream();
    };
    port = worker.port;
    port.onmessage = ({ data }) => {
      clearTimeout(welcomeTimer);
      if (data.type !== "welcome" && ownStream === null && isJoined) emit(data);
    };
  } catch {
    startOwnStream(); // without shared workers
  }
  if (!document.hidden || (!leavesHidden && ownStream === null)) join();
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => event.persisted && update());
  addEventListener("online", update);
  document.addEventListener("visibilitychange", update);
  return {
    setListener(added) {
      listener = added;
      waiting.splice(0).forEach(added);
    },
    leave() {
      hasLeft = true;
      leave();
    },
  };
}

// The content security policy requires trusted types for script URLs; this URL is a constant.
function trustedWorkerUrl() {
  const url = new URL("worker.js", import.meta.url);
  const { trustedTypes } = /** @type {any} */ (globalThis);
  if (trustedTypes === undefined) return url;
  workerPolicy ??= trustedTypes.createPolicy("worker", { createScriptURL: (/** @type {string} */ text) => text });
  return workerPolicy.createScriptURL(url.href);
}
