// Puts an element's children in order with as few moves as there can be: a node that is moved loses focus and scroll.

export function inOrder(parent, wanted) {
  const places = new Map();
  for (const node of parent.children) places.set(node, places.size);
  if (places.size === wanted.length && wanted.every((node, n) => places.get(node) === n)) return;
  const staying = longest(wanted.map((node) => places.get(node) ?? -1));
  for (const node of wanted) places.delete(node);
  for (const node of places.keys()) node.remove();
  let next = null;
  for (let n = wanted.length - 1; n >= 0; n--) {
    if (!staying.has(n)) parent.insertBefore(wanted[n], next);
    next = wanted[n];
  }
}

// The indices of a longest run of growing numbers; -1 is none.
function longest(numbers) {
  const ends = []; // of runs of each length, the one with the least last number
  const before = [];
  for (let n = 0; n < numbers.length; n++) {
    if (numbers[n] < 0) continue;
    let low = 0;
    for (let high = ends.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (numbers[ends[middle]] < numbers[n]) low = middle + 1;
      else high = middle;
    }
    before[n] = low > 0 ? ends[low - 1] : -1;
    ends[low] = n;
  }
  const found = new Set();
  for (let n = ends.at(-1) ?? -1; n >= 0; n = before[n]) found.add(n);
  return found;
}
