// Parses the text of an event stream (Server-Sent Events), which arrives in pieces.

/** @typedef {{ id: string, name: string, data: string }} StreamEvent */

const END = "\n\n";

export class EventParser {
  /** @type {string[]} */
  #pieces = []; // of the event that is not complete yet

  /**
   * Adds text and returns the events that are complete now. The id of an event without one is empty.
   *
   * @param {string} text
   * @returns {StreamEvent[]}
   */
  push(text) {
    const events = [];
    // An end may be split between two pieces. Only the last piece is searched: a large event takes many.
    if (this.#pieces.at(-1)?.endsWith("\n")) text = this.#pieces.pop() + text;
    let start = 0;
    for (let end; (end = text.indexOf(END, start)) >= 0; start = end + END.length) {
      events.push(parseEvent(this.#pieces.join("") + text.slice(start, end)));
      this.#pieces = [];
    }
    if (start < text.length) this.#pieces.push(text.slice(start));
    return events;
  }
}

/**
 * @param {string} text
 * @returns {StreamEvent}
 */
function parseEvent(text) {
  const event = { id: "", name: "", data: "" };
  for (const line of text.split("\n")) {
    if (line.startsWith("id: ")) event.id = line.slice(4);
    else if (line.startsWith("event: ")) event.name = line.slice(7);
    else if (line.startsWith("data: ")) event.data = line.slice(6);
  }
  return event;
}
