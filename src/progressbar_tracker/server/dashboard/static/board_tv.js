// The board on a wall screen: the slides are the groups, each with as many rows a page as fit. Urgent items come first.

import { arrangeItems, sortItems } from "./arrange.js";
import { splitPages } from "./today_tv.js";
import { Tv, readTvSeconds } from "./tv.js";

/** @typedef {import("./tv.js").Slide & { items: WireItem[] }} BoardSlide */
/**
 * @typedef {object} BoardTvOptions
 * @property {() => WireItem[]} items The items of the board.
 * @property {(items: WireItem[], query: BoardQuery) => void} show Shows only these.
 * @property {() => { top: number, rowHeight: number }} measure Returns where the rows begin, and the pixels of one.
 * @property {string} [title] The title of items without a group.
 */

/** @type {BoardQuery} */
const URGENT_FIRST = { q: "", status: "", sort: "status", group: null };
const BOTTOM_PX = 8;

export class BoardTv {
  /** The order of the rows. */
  query = URGENT_FIRST;
  #options;
  #tv;
  /** @type {BoardSlide[]} */
  #slides = [];

  /** @param {BoardTvOptions} options @param {number} seconds */
  constructor(options, seconds) {
    this.#options = options;
    this.#tv = new Tv({ listSlides: () => this.#slides, showSlide: (slide) => this.#show(slide?.key ?? "") }, seconds);
  }

  /** Arranges the board again: items have come, gone or changed their state. */
  update() {
    const { items, measure, title } = this.#options;
    let { top, rowHeight } = measure();
    for (let round = 0; round < 2; round++) {
      this.#slides = createBoardSlides(items(), innerHeight - top - BOTTOM_PX, rowHeight, title);
      this.#tv.update();
      // Without rows, their height is unknown.
      const former = rowHeight;
      ({ top, rowHeight } = measure());
      if (rowHeight === former) return;
    }
  }

  /** @param {number} at */
  setTime(at) {
    this.#tv.setTime(at);
  }

  /** @param {string} summary */
  setSummary(summary) {
    this.#tv.setSummary(summary);
  }

  /** @param {string} key */
  #show(key) {
    this.#options.show(this.#slides.find((slide) => slide.key === key)?.items ?? [], this.query);
  }
}

/**
 * Returns the mode if the address asks for it.
 *
 * @param {BoardTvOptions} options
 * @returns {BoardTv | null}
 */
export function createBoardTv(options) {
  const seconds = readTvSeconds(new URLSearchParams(location.search));
  return seconds === null ? null : new BoardTv(options, seconds);
}

/**
 * Returns the slides of some items: the groups by name, and their pages.
 *
 * @param {WireItem[]} items
 * @param {number} height
 * @param {number} rowHeight
 * @param {string} [title] of items without a group
 * @returns {BoardSlide[]}
 */
export function createBoardSlides(items, height, rowHeight, title = "No group") {
  const { groups } = arrangeItems(sortItems([...items], URGENT_FIRST.sort), URGENT_FIRST);
  const names = [...groups.keys()].sort();
  return names.flatMap((name) => {
    const rows = groups.get(name)?.rows ?? [];
    return splitPages(rows, () => rowHeight, height).map((page, at) => ({
      key: `${at} ${name}`,
      title: name || (names.length > 1 || title !== "No group" ? title : ""),
      rank: Math.max(...page.map(({ item }) => rankOf(item))),
      items: page.map(({ item }) => item),
    }));
  });
}

/** @param {WireItem} item */
function rankOf({ status, stuck, stalled, late, slower }) {
  if (status !== "running") return status === "failed" ? 2 : 0;
  return stuck || stalled || late ? 3 : slower ? 1 : 0;
}
