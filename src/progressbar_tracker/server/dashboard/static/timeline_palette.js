// The colours and patterns of the timeline's canvas: from the tokens of the style sheet, or the system's colours.

/** @typedef {{ fill: string | CanvasPattern, edge: string, text: string, colour: string }} Paint */

/**
 * @typedef {object} Palette
 * @property {string} background
 * @property {string} text
 * @property {string} muted
 * @property {string} line
 * @property {string} heading
 * @property {string} now The line of the present.
 * @property {string} font
 * @property {Record<string, Paint>} paints The paint of each state.
 * @property {CanvasPattern} range The pattern of a finish's range.
 */

/** @type {Record<string, string>} states to tokens */
const STATE_TOKENS = {
  running: "--running", slower: "--slower", late: "--late", stuck: "--stuck", stalled: "--stalled",
  succeeded: "--succeeded", failed: "--failed", stopped: "--stopped", deleted: "--stopped",
};
const HATCHED_STATES = ["failed", "stuck", "stalled"];
const TINT_ALPHA = 0.16;
const HOLLOW_STATES = ["stopped", "deleted"];
const PRINT_COLOURS = {
  "--card": "#fff", "--text": "#000", "--muted": "#444", "--border": "#ccc", "--track": "#eee", "--on-accent": "#fff",
  "--running": "#1a67c7", "--slower": "#6a48c9", "--late": "#a04a00", "--stuck": "#a3226f", "--stalled": "#8f5c00",
  "--succeeded": "#17754a", "--failed": "#bb3027", "--stopped": "#56616f", "--timeline-now": "#bb3027",
};

/**
 * Reads the colours that apply at present.
 *
 * @param {HTMLElement} host an element that inherits the tokens
 * @param {CanvasRenderingContext2D} context
 * @param {number} ratio device pixels per pixel
 * @param {boolean} isPrinted
 * @returns {Palette}
 */
export function readPalette(host, context, ratio, isPrinted) {
  const isForced = matchMedia("(forced-colors: active)").matches && !isPrinted;
  const probe = host.appendChild(document.createElement("i"));
  probe.hidden = true;
  /** @param {string} token @param {string} system */
  const read = (token, system) => {
    if (isPrinted) return PRINT_COLOURS[/** @type {keyof typeof PRINT_COLOURS} */ (token)];
    probe.style.color = isForced ? system : `var(${token})`;
    return getComputedStyle(probe).color;
  };
  const background = read("--card", "Canvas");
  const text = read("--text", "CanvasText");
  const onBar = read("--on-accent", "Canvas");
  /** @type {Record<string, Paint>} */
  const paints = {};
  for (const [state, token] of Object.entries(STATE_TOKENS)) {
    const colour = read(token, state === "running" ? "Highlight" : "CanvasText");
    const isHatched = HATCHED_STATES.includes(state);
    const isHollow = HOLLOW_STATES.includes(state);
    const fill = isHatched ? createHatch(context, colour, ratio, isForced ? 0 : TINT_ALPHA, 2.5) : isHollow ? background : colour;
    paints[state] = { fill, edge: colour, colour, text: isHatched || isHollow ? text : isForced && state === "running" ? read("--card", "HighlightText") : onBar };
  }
  const palette = {
    background,
    text,
    muted: read("--muted", "CanvasText"),
    line: read("--border", "GrayText"),
    heading: read("--track", "Canvas"),
    now: read("--timeline-now", "Highlight"),
    font: getComputedStyle(host).fontFamily,
    paints,
    range: createHatch(context, paints.running.colour, ratio, 0, 1),
  };
  probe.remove();
  return palette;
}

/**
 * Returns a pattern of diagonal stripes.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {string} colour
 * @param {number} ratio
 * @param {number} tint the opacity between the stripes
 * @param {number} thickness pixels
 * @returns {CanvasPattern}
 */
function createHatch(context, colour, ratio, tint, thickness) {
  const size = Math.max(Math.round(7 * ratio), 4);
  const tile = document.createElement("canvas");
  tile.width = tile.height = size;
  const drawing = /** @type {CanvasRenderingContext2D} */ (tile.getContext("2d"));
  drawing.globalAlpha = tint;
  drawing.fillStyle = colour;
  drawing.fillRect(0, 0, size, size);
  drawing.globalAlpha = 1;
  drawing.strokeStyle = colour;
  drawing.lineWidth = thickness * ratio;
  drawing.lineCap = "square";
  drawing.beginPath();
  // Beyond the tile, so that neighbouring tiles join.
  for (const shift of [-size, 0, size]) {
    drawing.moveTo(shift - 2, size + 2);
    drawing.lineTo(shift + size + 2, -2);
  }
  drawing.stroke();
  const pattern = /** @type {CanvasPattern} */ (context.createPattern(tile, "repeat"));
  pattern.setTransform(new DOMMatrix().scale(1 / ratio));
  return pattern;
}
