// The places of entries below each other.

/**
 * Returns the index of the entry at a distance from the top, at most the number of entries.
 *
 * @param {Float64Array} offsets the top of each entry, and the bottom of the last one
 * @param {number} distance
 */
export function findIndex(offsets, distance) {
  let low = 0;
  for (let high = offsets.length - 1; low < high; ) {
    const middle = (low + high) >> 1;
    if (offsets[middle + 1] <= distance) low = middle + 1;
    else high = middle;
  }
  return low;
}
