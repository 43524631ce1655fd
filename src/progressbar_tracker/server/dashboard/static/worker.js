// Holds the streams of a browser, one for each list of items, and forwards their messages to the tabs that have joined.

import { ItemStream } from "./item_stream.js";
import { StreamSlots } from "./stream_slots.js";

const MAX_STREAMS = 4; // further lists are polled

/** @typedef {{ ports: Set<MessagePort>, stream: ItemStream }} Feed */

const slots = new StreamSlots(MAX_STREAMS);
/** @type {Map<string, Feed>} */
const feeds = new Map(); // by their URLs

/**
 * @param {string} key
 * @param {string} list
 * @param {string} events
 * @returns {Feed}
 */
function requireFeed(key, list, events) {
  let feed = feeds.get(key);
  if (feed === undefined) {
    /** @type {Set<MessagePort>} */
    const ports = new Set();
    const stream = new ItemStream({ list: new URL(list), events: new URL(events) }, slots, (message) => {
      for (const port of ports) port.postMessage(message);
    });
    feeds.set(key, (feed = { ports, stream }));
  }
  return feed;
}

addEventListener("connect", (event) => {
  const [port] = /** @type {MessageEvent} */ (event).ports;
  /** @type {string | null} */
  let joined = null;

  function leave() {
    const key = joined ?? "";
    const feed = feeds.get(key);
    joined = null;
    if (feed === undefined) return;
    feed.ports.delete(port);
    if (feed.ports.size > 0) return;
    feed.stream.stop();
    feeds.delete(key);
  }

  port.addEventListener("close", leave); // of a tab that was closed without a message, in browsers that report it
  port.onmessage = ({ data }) => {
    if (data.type === "wake") feeds.get(joined ?? "")?.stream.wake();
    else if (data.type === "leave") leave();
    else {
      leave();
      joined = `${data.list} ${data.events}`;
      const { ports, stream } = requireFeed(joined, data.list, data.events);
      ports.add(port);
      for (const message of stream.currentMessages()) port.postMessage(message);
      stream.start();
    }
  };
  port.postMessage({ type: "welcome" });
});
