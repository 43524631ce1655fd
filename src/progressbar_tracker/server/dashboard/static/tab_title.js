// Shows the summary in the browser tab: as its title, and as a ring with the number of items that need attention in its icon.

import { formatNumber, formatPercent } from "./format.js";

const COLOURS = { attention: "#d4483e", running: "#2a7de1", offline: "#8a94a3" };
const CIRCUMFERENCE = 2 * Math.PI * 12;
const FRACTION_STEPS = 50;

/** @typedef {{ running: number, meanValue: number | null }} TabSummary */

const icon = /** @type {HTMLLinkElement | null} */ (document.querySelector("link[rel=icon]"));
const defaultIcon = icon?.href ?? "";

/**
 * Shows a summary of the board in the tab.
 *
 * @param {TabSummary} summary
 * @param {number} attentionCount items that need attention and are not hidden
 * @param {boolean} isOffline
 */
export function updateTab(summary, attentionCount, isOffline) {
  const title = formatTabTitle(summary, attentionCount, isOffline);
  if (document.title !== title) document.title = title;
  const svg = drawTabIcon(summary, attentionCount, isOffline);
  const url = svg === null ? defaultIcon : `data:image/svg+xml,${encodeURIComponent(svg)}`;
  if (icon !== null && icon.href !== url) icon.href = url;
}

/**
 * Returns a title such as "(2) 42 % - 3 running".
 *
 * @param {TabSummary} summary
 * @param {number} attentionCount
 * @param {boolean} isOffline
 */
export function formatTabTitle({ running, meanValue }, attentionCount, isOffline) {
  const parts = [];
  if (isOffline) parts.push("offline");
  if (running > 0 && meanValue !== null) parts.push(formatPercent(meanValue));
  if (running > 0) parts.push(`${formatNumber(running)} running`);
  return `${attentionCount > 0 ? `(${attentionCount}) ` : ""}${parts.join(" - ") || "Progress"}`;
}

/**
 * Returns an icon with a ring for the mean value and a number for what needs attention; null for that of the page.
 *
 * @param {TabSummary} summary
 * @param {number} attentionCount
 * @param {boolean} isOffline
 */
export function drawTabIcon({ running, meanValue }, attentionCount, isOffline) {
  if (running === 0 && attentionCount === 0 && !isOffline) return null;
  // In steps of 2 %: each new icon costs the browser as much as a request.
  const fraction = Math.floor((meanValue ?? 0) * FRACTION_STEPS) / FRACTION_STEPS;
  const colour = isOffline ? COLOURS.offline : COLOURS.running;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><g fill="none" stroke-width="7">` +
    `<circle cx="16" cy="16" r="12" stroke="#9ab" stroke-opacity=".5"/>` +
    `<circle cx="16" cy="16" r="12" stroke="${colour}" stroke-dasharray="${(fraction * CIRCUMFERENCE).toFixed(1)} 99" ` +
    `transform="rotate(-90 16 16)"/></g>${drawBadge(attentionCount, isOffline)}</svg>`;
}

/**
 * @param {number} count
 * @param {boolean} isOffline
 */
function drawBadge(count, isOffline) {
  if (count === 0) return "";
  const colour = isOffline ? COLOURS.offline : COLOURS.attention;
  // Two digits would not be legible at 16 pixels: a dot stands for more.
  const number = count > 9 ? "" : `<text x="21.5" y="28" font-family="sans-serif" font-weight="700" font-size="18" fill="#fff" ` +
    `text-anchor="middle">${count}</text>`;
  return `<circle cx="21.5" cy="21.5" r="10.5" fill="${colour}"/>${number}`;
}
