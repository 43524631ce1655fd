// The controls of the board: buttons and menus of rows, columns of the last runs, keys, and the density.

import { showDismissButton } from "./attention_row.js";
import { Columns } from "./columns.js";
import { installDensity } from "./density.js";
import { Bell, hasBells, loadFollowed, openBell } from "./bell.js";
import { createElement, requireElement } from "./dom.js";
import { titleOf } from "./format.js";
import { installKeys, showKeys } from "./keyboard.js";
import { RowButtons } from "./row_buttons.js";
import { RowFocus } from "./row_focus.js";
import { copyAndConfirm, itemLink, listActions, openMenu } from "./row_menu.js";
import { RunCache } from "./run_cache.js";
import { mayStop, stopRun } from "./stop.js";

/** @typedef {import("./board_list.js").BoardList} BoardList */

export class BoardControls {
  #container;
  #board;
  #form;
  #section;
  #dismissals;
  #toast;
  #focus;
  #now;
  /** @type {WeakMap<Element, Columns>} */
  /** @type {WeakMap<Element, Bell>} the bells of groups, by their place */
  #bells = new WeakMap();
  #columns = new WeakMap();
  #runs = new RunCache((ids) => ids.forEach((id) => this.#board().list.refresh(id)));
  #commands = {
    search: () => this.#form.focus(),
    next: () => this.#focus().move(1),
    previous: () => this.#focus().move(-1),
    first: () => this.#focus().moveToFirst(),
    last: () => this.#focus().moveToLast(),
    error: () => this.#toggleError(),
    dismiss: () => this.#remove(),
    undo: () => this.#toast.undo(),
    copy: () => this.#withItem((item) => this.#copyLink(item)),
    menu: () => this.#withItem((item) => this.#openMenu(item, this.#focus().node?.querySelector(".row-button.menu") ?? null)),
    help: () => showKeys(),
  };

  /**
   * @param {object} options
   * @param {HTMLElement} options.container
   * @param {() => BoardList} options.board
   * @param {import("./query.js").QueryForm} options.form
   * @param {import("./attention_section.js").AttentionSection} options.section
   * @param {import("./dismissal.js").Dismissals} options.dismissals
   * @param {import("./toast.js").Toast} options.toast
   * @param {() => number} options.now
   */
  constructor({ container, board, form, section, dismissals, toast, now }) {
    this.#container = container;
    this.#board = board;
    this.#form = form;
    this.#section = section;
    this.#dismissals = dismissals;
    this.#toast = toast;
    this.#now = now;
    /** @type {RowFocus<BoardEntry> | undefined} */
    let focus;
    this.#focus = () => (focus ??= new RowFocus(board().list));
    installKeys((command) => this.#commands[command]() !== false);
    installDensity(requireElement("density"), () => board().remeasure());
    requireElement("show-keys").addEventListener("click", showKeys);
    requireElement("query").addEventListener("submit", () => this.#focus().moveToFirst()); // by Enter in the search
    container.addEventListener("click", (event) => this.#handleClick(event));
    void loadFollowed();
  }

  /**
   * Fills the places of a row for runs and buttons.
   *
   * @param {import("./row.js").Row} row
   * @param {WireItem} item
   */
  decorateRow(row, item) {
    const mayDismiss = this.#dismissals.mayDismiss(item);
    RowButtons.in(row.actions).show(item, mayDismiss ? "dismiss" : null);
    if (mayDismiss) this.#container.classList.add("has-dismissible");
    let columns = this.#columns.get(row.runs);
    if (columns === undefined) {
      this.#columns.set(row.runs, (columns = new Columns()));
      row.runs.append(columns.node);
    }
    columns.update(item, this.#runs.get(item.id), this.#now());
    if (!columns.node.hidden) this.#container.classList.add("has-last-runs");
  }

  /**
   * Offers to dismiss the ended items of a group.
   *
   * @param {import("./group_heading.js").GroupHeading} heading
   * @param {WireItem[]} items
   */
  decorateHeading(heading, items) {
    if (heading.actions.firstChild === null) {
      heading.actions.append(createElement("button", { type: "button", class: "secondary dismiss-ended" }));
    }
    const button = /** @type {HTMLButtonElement} */ (heading.actions.firstChild);
    const { group } = heading.node.dataset;
    if (hasBells()) this.#decorateBell(heading, group ?? "");
    showDismissButton(button, items.filter((item) => this.#dismissals.mayDismiss(item)).length, group || "items without a group");
  }

  /**
   * Shows the bell of a group; items without a group have none.
   *
   * @param {import("./group_heading.js").GroupHeading} heading
   * @param {string} group
   */
  #decorateBell(heading, group) {
    let bell = this.#bells.get(heading.actions);
    if (bell === undefined) {
      this.#bells.set(heading.actions, (bell = new Bell("row-button")));
      heading.actions.append(bell.node);
    }
    bell.node.hidden = group === "";
    if (group !== "") bell.show({ group }, `the group ${group}`);
  }

  /** Updates the columns of the current runs. */
  updateTimes() {
    for (const [entry, node] of this.#board().list.shownEntries()) {
      if (entry.kind !== "item" || entry.item.status !== "running") continue;
      const place = node.querySelector(".last-runs");
      if (place !== null) this.#columns.get(place)?.update(entry.item, this.#runs.get(entry.item.id), this.#now());
    }
  }

  /**
   * Takes over the runs that have ended; after a snapshot, some may be unknown.
   *
   * @param {StoreChanges} changes
   */
  addRuns({ ended, isSnapshot }) {
    for (const run of ended) this.#runs.add(run);
    if (isSnapshot) this.#runs.expire();
  }

  /** @param {MouseEvent} event */
  #handleClick(event) {
    const target = /** @type {Element} */ (event.target);
    const isKeyboard = event.detail === 0;
    const id = /** @type {HTMLElement | null} */ (target.closest("[data-id]"))?.dataset.id;
    const item = id === undefined ? undefined : this.#board().find(id);
    const group = /** @type {HTMLElement | null} */ (target.closest(".group"))?.dataset.group;
    const menuButton = /** @type {HTMLElement | null} */ (target.closest(".row-button.menu"));
    if (menuButton !== null && item !== undefined) this.#openMenu(item, menuButton);
    else if (target.closest(".row-button.dismiss") && item !== undefined) this.#dismiss([item], isKeyboard);
    else if (target.closest(".dismiss-ended") && group !== undefined) this.#dismiss(this.#board().itemsOf(group), isKeyboard);
    else if (this.#section.handleClick(target) && isKeyboard && !target.closest(".reason, .attention-more")) this.#toast.focus();
  }

  /**
   * @param {WireItem[]} items
   * @param {boolean} isKeyboard whether the focus is on the button, which may disappear
   */
  #dismiss(items, isKeyboard) {
    if (this.#dismissals.dismiss(items) > 0 && isKeyboard) this.#toast.focus();
  }

  /** @param {(item: WireItem) => unknown} act */
  #withItem(act) {
    const { entry } = this.#focus();
    if (entry?.kind !== "item" && entry?.kind !== "attention") return false;
    return act(entry.item);
  }

  #toggleError() {
    const { entry } = this.#focus();
    if (entry?.kind === "item" && entry.item.error) this.#board().toggleError(entry.item.id);
    else if (entry?.kind === "attention" && entry.item.error) this.#section.toggleError(entry.item.id);
  }

  // The key leaves the focus in the list, where the next row gets it.
  #remove() {
    const { entry } = this.#focus();
    if (entry?.kind === "attention") this.#section.hide(entry.item.id);
    else if (entry?.kind === "item" && this.#dismissals.dismiss([entry.item]) === 0) this.#toast.show("Only ended items can be dismissed.");
  }

  /** @param {WireItem} item */
  #copyLink(item) {
    void copyAndConfirm(itemLink(item), "Link", (text) => this.#toast.show(text));
  }

  /**
   * @param {WireItem} item
   * @param {HTMLElement | null} button
   */
  #openMenu(item, button) {
    if (button === null) return;
    const actions = listActions(item, {
      isAdmin: this.#container.hasAttribute("data-admin"),
      confirm: (text) => this.#toast.show(text),
      mayDismiss: (other) => this.#dismissals.mayDismiss(other),
      dismiss: (other) => this.#dismissals.dismiss([other]),
      stop: item.stop_requested_at === null && mayStop(item, this.#container.dataset) ? () => stopRun(item, (text) => this.#toast.show(text)) : null,
      notify: hasBells() ? () => openBell({ item: item.id }, titleOf(item)) : null,
      hide: button.closest(".attention") === null ? null : () => this.#section.hide(item.id),
    });
    openMenu(button, `Menu of ${titleOf(item)}`, actions);
  }
}
