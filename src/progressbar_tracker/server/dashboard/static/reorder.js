// Reorders the children of an element with the fewest moves: a node that is moved loses its focus and scroll position.

export function reorderChildren(parent, wanted) {
  const positions = new Map();
  for (const node of parent.children) positions.set(node, positions.size);
  if (positions.size === wanted.length && wanted.every((node, n) => positions.get(node) === n)) return;
  const unmoved = longestIncreasing(wanted.map((node) => positions.get(node) ?? -1));
  for (const node of wanted) positions.delete(node);
  for (const node of positions.keys()) node.remove();
  let next = null;
  for (let n = wanted.length - 1; n >= 0; n--) {
    if (!unmoved.has(n)) parent.insertBefore(wanted[n], next);
    next = wanted[n];
  }
}

// Returns the indices of a longest increasing subsequence; -1 marks a new node and is skipped.
function longestIncreasing(numbers) {
  const ends = []; // for each length, the index of the smallest last number
  const previous = [];
  for (let n = 0; n < numbers.length; n++) {
    if (numbers[n] < 0) continue;
    let low = 0;
    for (let high = ends.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (numbers[ends[middle]] < numbers[n]) low = middle + 1;
      else high = middle;
    }
    previous[n] = low > 0 ? ends[low - 1] : -1;
    ends[low] = n;
  }
  const indices = new Set();
  for (let n = ends.at(-1) ?? -1; n >= 0; n = previous[n]) indices.add(n);
  return indices;
}
