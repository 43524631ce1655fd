// The bells: each opens the dialog that lets this browser follow an item, a run or a group.
//
// A page of a reader who follows nothing loads no more than the bells: push.js is loaded with the first click, or if this
// browser has subscribed before.

import { createElement, createSvg } from "./dom.js";

const BELL = "M8 2.2c-2.4 0-4 1.7-4 4.1 0 3-1.5 3.6-1.5 5h11c0-1.4-1.5-2-1.5-5 0-2.4-1.6-4.1-4-4.1zM6.6 13.4a1.5 1.5 0 0 0 2.8 0";
export const BROWSER_KEY = "push-browser"; // in localStorage, once this browser has subscribed

/** @typedef {{ item?: string, run_id?: string, group?: string }} Subject */

/** @type {WeakMap<Element, Bell>} */
const bells = new WeakMap();

/** @type {Set<string>} the followed subjects */
let followed = new Set();

/** Returns whether the server sends Web Push to the reader of this page. */
export function hasBells() {
  return document.querySelector("[data-push]") !== null;
}

/**
 * Returns the key of a subject.
 *
 * @param {Subject} subject
 */
export function subjectKey({ item, run_id: runId, group }) {
  return JSON.stringify([item ?? null, item === undefined ? null : runId ?? null, group ?? null]);
}

/**
 * Shows which subjects this browser follows.
 *
 * @param {Subject[]} subjects
 */
export function showFollowed(subjects) {
  followed = new Set(subjects.map(subjectKey));
  for (const node of document.querySelectorAll(".bell")) bells.get(node)?.update();
}

/** Loads what this browser follows, if it has subscribed before. */
export async function loadFollowed() {
  if (!hasBells() || localStorage.getItem(BROWSER_KEY) === null) return;
  await (await import("./push.js")).synchronize();
}

/**
 * Opens the dialog of a subject.
 *
 * @param {Subject} subject `run_id`: the run that the reader may choose
 * @param {string} name
 * @param {boolean} [isRunPage] whether the run is chosen at first
 */
export async function openBell(subject, name, isRunPage = false) {
  await (await import("./push.js")).openDialog(subject, name, isRunPage);
}

export class Bell {
  node = createElement("button", { type: "button", "aria-haspopup": "dialog" });
  /** @type {Subject | null} */
  #subject = null;
  #name = "";
  #isRunPage = false;
  #label = "";

  /**
   * @param {string} className
   * @param {string} [text] beside the bell
   */
  constructor(className, text = "") {
    this.node.className = `${className} bell`;
    this.node.append(createSvg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, createSvg("path", { d: BELL })), text);
    // The list of the board handles clicks on rows; this one is not for it.
    this.node.addEventListener("click", (event) => {
      event.stopPropagation();
      if (this.#subject !== null) void openBell(this.#subject, this.#name, this.#isRunPage);
    });
    bells.set(this.node, this);
  }

  /**
   * @param {Subject} subject
   * @param {string} name
   * @param {boolean} [isRunPage]
   */
  show(subject, name, isRunPage = false) {
    this.#subject = subject;
    this.#name = name;
    this.#isRunPage = isRunPage;
    this.update();
  }

  update() {
    if (this.#subject === null) return;
    const { item, group } = this.#subject;
    const isFollowed = followed.has(subjectKey({ item, group })) || followed.has(subjectKey(this.#subject));
    const label = `Notify me about ${this.#name}`;
    this.node.classList.toggle("followed", isFollowed);
    this.node.setAttribute("aria-pressed", String(isFollowed));
    this.node.title = isFollowed ? "This browser is notified" : "Notify this browser";
    if (label === this.#label) return;
    this.#label = label;
    this.node.setAttribute("aria-label", label);
  }
}
