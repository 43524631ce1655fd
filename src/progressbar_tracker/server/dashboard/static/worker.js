// Holds the one stream of a browser, and hands what it says to every tab that has joined.

import { Stream } from "./stream.js";

const PATIENCE = 1000;

const ports = new Set();
const waiting = new Map(); // ports to what their pages were painted of, which is newer than what is known here
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
  for (const message of stream.present()) port.postMessage(message);
}

addEventListener("connect", ({ ports: [port] }) => {
  function leave() {
    ports.delete(port);
    waiting.delete(port);
    if (ports.size + waiting.size === 0) stream.stop();
  }

  port.onclose = leave; // of a tab that had no time to say so, where browsers tell it
  port.onmessage = ({ data }) => {
    if (data === "wake") stream.wake();
    else if (data === "leave") leave();
    else {
      port.postMessage({ type: "welcome" });
      waiting.set(port, data.painted);
      admit(port);
      setTimeout(() => {
        if (!waiting.has(port)) return;
        waiting.set(port, "");
        admit(port);
      }, PATIENCE);
      stream.start();
    }
  };
});
