// The widths of the columns of the board, which are those of the widest text that was visible. A column without a text
// takes no room. Widths only grow while the reader scrolls, so that the rows do not jump.

const MIN_STEP = 2; // characters by which a column grows at least

export class ColumnWidths {
  #container;
  /** @type {Map<string, number>} */
  #widths;
  /** @type {Map<string, number>} */
  #shown = new Map();
  #isCollecting = false;

  /**
   * @param {HTMLElement} container whose style takes the widths, as `--NAME-width`
   * @param {string[]} names
   */
  constructor(container, names) {
    this.#container = container;
    this.#widths = new Map(names.map((name) => [name, 0]));
    this.#apply();
  }

  /**
   * Collects the widths of the rows that a function renders, and applies them at once. Until then the style is clean, so that
   * the positions of elements can be read.
   *
   * @param {boolean} isNew whether to forget the former widths
   * @param {() => void} render
   */
  collect(isNew, render) {
    if (isNew) for (const name of this.#widths.keys()) this.#widths.set(name, 0);
    this.#isCollecting = true;
    render();
    this.#isCollecting = false;
    this.#apply();
  }

  /**
   * Makes a column wide enough for a text.
   *
   * @param {string} name
   * @param {string} text
   */
  fit(name, text) {
    const width = this.#widths.get(name) ?? 0;
    if (text.length <= width) return;
    this.#widths.set(name, Math.max(text.length, width === 0 ? 0 : width + MIN_STEP));
    if (!this.#isCollecting) this.#apply();
  }

  #apply() {
    for (const [name, width] of this.#widths) {
      if (this.#shown.get(name) === width) continue;
      this.#shown.set(name, width);
      this.#container.style.setProperty(`--${name}-width`, width === 0 ? "0px" : `calc(${width}ch + 1.25rem)`);
      this.#container.classList.toggle(`no-${name}`, width === 0);
    }
  }
}
