// The mode for wall screens: `?tv`, or `?tv=30` for 30 seconds a slide. It shows one slide of a page after the other.
//
// A page gives its slides, such as its groups, and shows the chosen one. A slide with a higher rank comes first.

import { viewerClock } from "./clock.js";
import { createElement, setText } from "./dom.js";
import { formatTimeOfDay } from "./format.js";
import { watchVersion } from "./tv_version.js";
import { keepAwake } from "./wake_lock.js";

/** @typedef {{ key: string, title: string, rank: number }} Slide */
/** @typedef {{ listSlides: () => Slide[], showSlide: (slide: Slide | null) => void }} Surface */

const DEFAULT_SECONDS = 15;
const MIN_SECONDS = 3;
const PAUSE_MS = 60000; // after an interaction
const IDLE_MS = 3000; // until the pointer is hidden
const MAX_DOTS = 12;

/**
 * Returns the seconds a slide, or null without the mode.
 *
 * @param {URLSearchParams} query
 * @returns {number | null}
 */
export function readTvSeconds(query) {
  const text = query.get("tv");
  if (text === null) return null;
  const seconds = Number(text);
  return text === "" || !Number.isFinite(seconds) || seconds <= 0 ? DEFAULT_SECONDS : Math.max(seconds, MIN_SECONDS);
}

/**
 * Returns the slides in their order: those that need attention first, else as given.
 *
 * @param {Slide[]} slides
 * @returns {Slide[]}
 */
export function orderSlides(slides) {
  return [...slides].sort((a, b) => b.rank - a.rank);
}

/**
 * Returns the slide after the one with a key, in a list that may have changed meanwhile.
 *
 * @param {Slide[]} slides in their order
 * @param {string | null} key
 * @param {number} step
 * @param {number} place the index at which the slide was
 * @returns {Slide | null}
 */
export function chooseSlide(slides, key, step, place) {
  if (slides.length === 0) return null;
  const at = slides.findIndex((slide) => slide.key === key);
  const next = at >= 0 ? at + step : place + Math.min(step, 0);
  return slides[((next % slides.length) + slides.length) % slides.length];
}

export class Tv {
  #surface;
  #seconds;
  /** @type {Slide | null} */
  #slide = null;
  #place = 0;
  #shownAt = performance.now();
  #pausedUntil = 0;
  #idleTimer = 0;
  #pointer = ""; // its last place
  #title = createElement("strong", { class: "tv-title" });
  #summary = createElement("span", { class: "tv-summary" });
  #dots = createElement("span", { class: "tv-dots" });
  #clock = createElement("span", { class: "tv-clock" });
  #asOf = createElement("span", { class: "tv-as-of" });
  #note = createElement("p", { class: "tv-note", role: "status" });

  /** @param {Surface} surface @param {number} seconds */
  constructor(surface, seconds) {
    this.#surface = surface;
    this.#seconds = seconds;
    document.documentElement.classList.add("tv");
    const times = createElement("p", { class: "tv-times" }, this.#asOf, this.#clock);
    document.body.prepend(createElement("header", { class: "tv-head" }, createElement("p", {}, this.#title, this.#dots, this.#summary), times));
    document.body.append(this.#note);
    for (const name of ["pointermove", "pointerdown", "wheel", "keydown"]) {
      addEventListener(name, (event) => this.#interact(event), { passive: true, capture: true });
    }
    addEventListener("resize", () => this.update());
    keepAwake((text) => this.#showNote(text));
    watchVersion();
    setInterval(() => this.tick(), 1000);
    this.tick();
    this.#hidePointer();
  }

  /** Shows the time of the last message, in milliseconds. @param {number} at */
  setTime(at) {
    setText(this.#asOf, `as of ${formatTimeOfDay(at)}`);
  }

  /** Shows a sentence about everything, not only the slide. @param {string} text */
  setSummary(text) {
    setText(this.#summary, text);
  }

  /** Shows the current slide again, or another one if it has gone: the data have changed. */
  update() {
    const slides = orderSlides(this.#surface.listSlides());
    const current = slides.find(({ key }) => key === this.#slide?.key) ?? chooseSlide(slides, null, 0, this.#place);
    this.#show(current, slides);
  }

  /** Moves to the next slide when it is due. */
  tick() {
    setText(this.#clock, viewerClock.time(Date.now()));
    const now = performance.now();
    const isPaused = now < this.#pausedUntil;
    document.documentElement.classList.toggle("tv-paused", isPaused);
    if (!isPaused && now - this.#shownAt >= this.#seconds * 1000) this.#step(1);
  }

  /** @param {number} step */
  #step(step) {
    const slides = orderSlides(this.#surface.listSlides());
    this.#shownAt = performance.now();
    this.#show(chooseSlide(slides, this.#slide?.key ?? null, step, this.#place), slides);
  }

  /** @param {Slide | null} slide @param {Slide[]} slides */
  #show(slide, slides) {
    if (slide?.key !== this.#slide?.key) this.#shownAt = performance.now();
    this.#slide = slide;
    this.#place = Math.max(slides.findIndex(({ key }) => key === slide?.key), 0);
    setText(this.#title, slide?.title ?? "");
    const dots = slides.length > MAX_DOTS ? `${this.#place + 1} of ${slides.length}` : slides.length < 2 ? "" : slides.map((_, at) => (at === this.#place ? "●" : "○")).join(" ");
    setText(this.#dots, dots);
    this.#dots.setAttribute("aria-label", `${this.#place + 1} of ${slides.length}`);
    this.#surface.showSlide(slide);
  }

  /** @param {Event} event */
  #interact(event) {
    if (event instanceof PointerEvent && event.type === "pointermove" && !this.#hasMoved(event)) return;
    document.documentElement.classList.remove("tv-idle");
    this.#hidePointer();
    this.#pausedUntil = performance.now() + PAUSE_MS;
    document.documentElement.classList.add("tv-paused");
    if (!(event instanceof KeyboardEvent) || event.target !== document.body) return;
    if (event.key === "ArrowRight") this.#step(1);
    else if (event.key === "ArrowLeft") this.#step(-1);
    else if (event.key === "Escape") this.#pausedUntil = 0;
  }

  /**
   * Returns whether the pointer is elsewhere. A browser also sends a move if the page changes below a pointer that rests.
   *
   * @param {PointerEvent} event
   */
  #hasMoved({ screenX, screenY }) {
    const former = this.#pointer;
    this.#pointer = `${screenX} ${screenY}`;
    return former !== "" && former !== this.#pointer;
  }

  #hidePointer() {
    clearTimeout(this.#idleTimer);
    this.#idleTimer = window.setTimeout(() => document.documentElement.classList.add("tv-idle"), IDLE_MS);
  }

  /** @param {string} text */
  #showNote(text) {
    setText(this.#note, text);
    setTimeout(() => setText(this.#note, ""), PAUSE_MS / 3);
  }
}
