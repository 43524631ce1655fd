// Holds the one stream of a browser, and hands what it says to every tab that has joined.

import { Stream } from "./stream.js";

const ports = new Set();
const stream = new Stream(new URL("../", import.meta.url), (message) => {
  for (const port of ports) port.postMessage(message);
});

addEventListener("connect", ({ ports: [port] }) => {
  function leave() {
    ports.delete(port);
    if (ports.size === 0) stream.stop();
  }

  port.onclose = leave; // of a tab that had no time to say so, where browsers tell it
  port.onmessage = ({ data }) => {
    if (data === "wake") stream.wake();
    else if (data === "leave") leave();
    else {
      ports.add(port);
      for (const message of [{ type: "welcome" }, ...stream.present()]) port.postMessage(message);
      stream.start();
    }
  };
});
