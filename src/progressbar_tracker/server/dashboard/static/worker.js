// Holds the one event stream of a browser, and forwards its messages to every tab that has joined.

import { Stream } from "./stream.js";

const CATCH_UP_TIMEOUT = 1000;

const ports = new Set();
const waiting = new Map(); // ports to the event ids of their first paint, while those are newer than the stream
const stream = new Stream(new URL("../", import.meta.url), (message) => {
  for (const port of ports) port.postMessage(message);
  for (const port of waiting.keys()) {
    if (message.type === "signed-out") port.postMessage(message);
    else admit(port);
  }
});

function admit(port) {
  if (!waiting.has(port) || stream.isBehind(waiting.get(port))) return;
  waiting.delete(port);
  ports.add(port);
  for (const message of stream.currentMessages()) port.postMessage(message);
}

addEventListener("connect", ({ ports: [port] }) => {
  function leave() {
    ports.delete(port);
    waiting.delete(port);
    if (ports.size + waiting.size === 0) stream.stop();
  }

  port.onclose = leave; // for a tab that was closed without a message, in browsers that report it
  port.onmessage = ({ data }) => {
    if (data === "wake") stream.wake();
    else if (data === "leave") leave();
    else {
      port.postMessage({ type: "welcome" });
      waiting.set(port, data.eventId);
      admit(port);
      setTimeout(() => {
        if (!waiting.has(port)) return;
        waiting.set(port, "");
        admit(port);
      }, CATCH_UP_TIMEOUT);
      stream.start();
    }
  };
});
