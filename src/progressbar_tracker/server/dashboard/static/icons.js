// The icons of the states. They differ in shape, so that colours are only a second sign.

import { createSvg } from "./dom.js";

/** @type {Record<State, string>} paths in a box of 16 by 16, drawn as lines */
const PATHS = {
  running: "M5.5 3.5v9l7-4.5z",
  slower: "M3.5 3.5v9l5-4.5zM8.5 12.5l5-4.5-5-4.5",
  stuck: "M5.5 3.5v9M10.5 3.5v9",
  stalled: "M8 2.5v7M8 13v.5",
  late: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M8 4.5V8l2.5 1.8",
  succeeded: "M3 8.5l3.5 3.5 6.5-8",
  failed: "M4 4l8 8M12 4l-8 8",
  stopped: "M4 4h8v8H4z",
  deleted: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M4 12l8-8",
};

/** Creates an icon with an accessible name; `setStateIcon` gives it a shape. */
export function createStateIcon() {
  return createSvg("svg", { class: "state-icon", viewBox: "0 0 16 16", role: "img" }, createSvg("path", {}));
}

/**
 * @param {SVGSVGElement} icon
 * @param {State} state
 */
export function setStateIcon(icon, state) {
  if (icon.getAttribute("aria-label") === state) return;
  icon.setAttribute("aria-label", state);
  icon.firstElementChild?.setAttribute("d", PATHS[state]);
}
