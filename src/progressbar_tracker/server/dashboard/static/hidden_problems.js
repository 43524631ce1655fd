// The entries that the reader has hidden from the list of what needs attention. The browser remembers them, by item, run and problem.

const STORAGE_KEY = "progress-hidden-problems";
const MAX_HIDDEN_ITEMS = 10000;
const MAX_STORED_CHARACTERS = 1000000;

/** @typedef {[run: string, problems: string]} Hidden */

/** An entry is shown again if the item has another problem, or another run. */
export class HiddenProblems {
  /** @type {Map<string, Hidden>} */
  #hidden = new Map();
  #storage;

  /** @param {Pick<Storage, "getItem" | "setItem"> | null} [storage] */
  constructor(storage = findStorage()) {
    this.#storage = storage;
    this.load();
  }

  /** Reads what this or another tab has stored. */
  load() {
    try {
      const entries = JSON.parse(this.#storage?.getItem(STORAGE_KEY) ?? "null");
      if (Array.isArray(entries)) this.#hidden = new Map(entries.filter(isEntry).map(([id, run, problems]) => [id, [run, problems]]));
    } catch {
      // Without storage, or with an unreadable one, only this page knows what is hidden.
    }
  }

  /**
   * @param {WireItem} item
   * @param {string} problems
   */
  isHidden(item, problems) {
    const hidden = this.#hidden.get(item.id);
    if (hidden === undefined || hidden[0] !== item.run_id) return false;
    const names = hidden[1].split(" ");
    return problems.split(" ").every((name) => names.includes(name));
  }

  /**
   * Hides entries, and returns a function that shows them again.
   *
   * @param {{ item: WireItem, problems: string }[]} entries
   */
  hide(entries) {
    this.load();
    /** @type {[string, Hidden | undefined][]} */
    const former = entries.map(({ item }) => [item.id, this.#hidden.get(item.id)]);
    for (const { item, problems } of entries) {
      const hidden = this.#hidden.get(item.id);
      const names = new Set([...(hidden?.[0] === item.run_id ? hidden[1].split(" ") : []), ...problems.split(" ")]);
      this.#hidden.delete(item.id); // to the end: the oldest entries are forgotten first
      this.#hidden.set(item.id, [item.run_id, [...names].join(" ")]);
    }
    this.#save();
    return () => {
      this.load();
      for (const [id, hidden] of former) {
        if (hidden === undefined) this.#hidden.delete(id);
        else this.#hidden.set(id, hidden);
      }
      this.#save();
    };
  }

  /**
   * Calls a function when another tab has hidden or shown entries.
   *
   * @param {() => void} listener
   */
  watch(listener) {
    addEventListener("storage", (event) => {
      if (event.key !== STORAGE_KEY && event.key !== null) return;
      if (event.newValue === null) this.#hidden.clear();
      this.load();
      listener();
    });
  }

  #save() {
    let entries = Array.from(this.#hidden, ([id, [run, problems]]) => [id, run, problems]).slice(-MAX_HIDDEN_ITEMS);
    let text = JSON.stringify(entries);
    while (text.length > MAX_STORED_CHARACTERS) {
      entries = entries.slice(Math.ceil(entries.length / 2));
      text = JSON.stringify(entries);
    }
    this.#hidden = new Map(entries.map(([id, run, problems]) => [id, [run, problems]]));
    try {
      this.#storage?.setItem(STORAGE_KEY, text);
    } catch {
      this.#storage = null; // it is full or denied: entries stay hidden while the page is open
    }
  }
}

/** @param {unknown} entry */
function isEntry(entry) {
  return Array.isArray(entry) && entry.length === 3 && entry.every((part) => typeof part === "string");
}

function findStorage() {
  try {
    return localStorage;
  } catch {
    return null; // access may be denied
  }
}
