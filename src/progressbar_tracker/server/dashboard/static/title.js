// The summary where a tab shows it: its title, and a ring for an icon.

import { percent } from "./words.js";

const icon = document.querySelector("link[rel=icon]");
const plain = icon.href;
const COLOURS = { failed: "#d4483e", stalled: "#c98a12", running: "#2a7de1", offline: "#8a94a3" };
const ROUND = 2 * Math.PI * 12;

export function tell(found, offline) {
  const words = [];
  if (offline) words.push("offline");
  if (found.running > 0) {
    if (found.share !== null) words.push(percent(found.share));
    words.push(`${found.running} running`);
  }
  const title = words.join(" - ") || "Progress";
  if (document.title !== title) document.title = title;
  const picture = found.running > 0 || offline ? ring(found, offline) : plain;
  if (icon.href !== picture) icon.href = picture;
}

function ring({ share, failed, stalled }, offline) {
  const colour = COLOURS[offline ? "offline" : failed > 0 ? "failed" : stalled > 0 ? "stalled" : "running"];
  // In steps: a new icon for every per cent would be a request's work each.
  const part = Math.floor((share ?? 0) * 50) / 50;
  const picture = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke-width="7">` +
    `<circle cx="16" cy="16" r="12" stroke="#9ab" stroke-opacity=".5"/><circle cx="16" cy="16" r="12" stroke="${colour}" ` +
    `stroke-dasharray="${(part * ROUND).toFixed(1)} 99" transform="rotate(-90 16 16)"/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(picture)}`;
}
