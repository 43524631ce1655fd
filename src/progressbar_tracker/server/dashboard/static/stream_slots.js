/** Bounds the open streams: a browser has six connections to a server over HTTP/1.1, and pages need some of them. */
export class StreamSlots {
  #free;

  /** @param {number} count */
  constructor(count) {
    this.#free = count;
  }

  acquire() {
    if (this.#free === 0) return false;
    this.#free--;
    return true;
  }

  release() {
    this.#free++;
  }
}
