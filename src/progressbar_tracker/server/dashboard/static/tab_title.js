// Shows the summary in the browser tab: as its title, and as a ring in its icon.

import { formatPercent } from "./format.js";

const icon = document.querySelector("link[rel=icon]");
const defaultIcon = icon.href;
const COLOURS = { failed: "#d4483e", stalled: "#c98a12", running: "#2a7de1", offline: "#8a94a3" };
const CIRCUMFERENCE = 2 * Math.PI * 12;

export function updateTab(summary, isOffline) {
  const parts = [];
  if (isOffline) parts.push("offline");
  if (summary.running > 0) {
    if (summary.meanValue !== null) parts.push(formatPercent(summary.meanValue));
    parts.push(`${summary.running} running`);
  }
  const title = parts.join(" - ") || "Progress";
  if (document.title !== title) document.title = title;
  const url = summary.running > 0 || isOffline ? ringIcon(summary, isOffline) : defaultIcon;
  if (icon.href !== url) icon.href = url;
}

function ringIcon({ meanValue, failed, stalled }, isOffline) {
  const colour = COLOURS[isOffline ? "offline" : failed > 0 ? "failed" : stalled > 0 ? "stalled" : "running"];
  // In steps of 2 %: each new icon costs the browser as much as a request.
  const fraction = Math.floor((meanValue ?? 0) * 50) / 50;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke-width="7">` +
    `<circle cx="16" cy="16" r="12" stroke="#9ab" stroke-opacity=".5"/><circle cx="16" cy="16" r="12" stroke="${colour}" ` +
    `stroke-dasharray="${(fraction * CIRCUMFERENCE).toFixed(1)} 99" transform="rotate(-90 16 16)"/></svg>`;
  return `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
