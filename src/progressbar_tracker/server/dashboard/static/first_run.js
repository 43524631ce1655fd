// The page of a scheduled item before its first run. It is loaded again when that run begins.

import { createNextStart } from "./next_start.js";
import { subscribe } from "./stream.js";

const nextStart = createNextStart();

subscribe((message) => {
  nextStart?.handleMessage(message);
  if (message.type === "signed-out") location.reload();
  if (message.type !== "snapshot" && message.type !== "change") return;
  const runs = message.type === "change" ? [...message.items, ...message.ended] : message.items;
  if (runs.some((item) => item.id === nextStart?.id)) location.reload();
});
