// What the reader wants to see of the board: in the form of the page, and in its URL.

const MAX_TEXT_LENGTH = 200;

export class QueryForm {
  #form;
  #onChange;
  /** @type {BoardQuery} */
  query;

  /**
   * @param {HTMLFormElement} form
   * @param {() => void} onChange
   */
  constructor(form, onChange) {
    this.#form = form;
    this.#onChange = onChange;
    this.query = this.#readUrl();
    form.addEventListener("input", () => this.#apply());
    form.addEventListener("submit", (event) => event.preventDefault());
    addEventListener("popstate", () => {
      this.query = this.#readUrl();
      onChange();
    });
  }

  /**
   * Changes a part of the query as if the reader had typed it.
   *
   * @param {Partial<{ q: string, status: string, sort: string }>} change
   */
  set(change) {
    for (const [name, value] of Object.entries(change)) this.#field(name).value = value;
    this.#apply();
  }

  focus() {
    const field = /** @type {HTMLInputElement} */ (this.#field("q"));
    field.focus();
    field.select();
  }

  /**
   * Returns the URL of the board with a change of the query.
   *
   * @param {Partial<BoardQuery>} change
   */
  url(change) {
    const { q, status, sort, group } = { ...this.query, ...change };
    const parameters = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries({ q, status, sort })) {
      if (value === "") parameters.delete(name);
      else parameters.set(name, value);
    }
    if (group === null) parameters.delete("group");
    else parameters.set("group", group);
    const text = parameters.toString();
    return text === "" ? location.pathname : `?${text}`;
  }

  /** @param {string} name */
  #field(name) {
    return /** @type {HTMLInputElement | HTMLSelectElement} */ (this.#form.elements.namedItem(name));
  }

  /** @returns {BoardQuery} */
  #readUrl() {
    const parameters = new URLSearchParams(location.search);
    for (const name of ["q", "status", "sort"]) {
      const field = this.#field(name);
      field.value = (parameters.get(name) ?? "").slice(0, MAX_TEXT_LENGTH);
      if (field.value === "" && field instanceof HTMLSelectElement) field.selectedIndex = 0;
    }
    return this.#readForm(parameters.get("group"));
  }

  /**
   * @param {string | null} group
   * @returns {BoardQuery}
   */
  #readForm(group) {
    return { q: this.#field("q").value.trim(), status: this.#field("status").value, sort: this.#field("sort").value, group };
  }

  #apply() {
    const next = this.#readForm(this.query.group);
    if (JSON.stringify(next) === JSON.stringify(this.query)) return;
    this.query = next;
    history.replaceState(null, "", this.url({}));
    this.#onChange();
  }
}
