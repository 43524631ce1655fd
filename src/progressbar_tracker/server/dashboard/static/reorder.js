// Orders the children of an element.

/**
 * Orders the children of an element. The node `fixed` stays where it is: a node that is moved loses the focus.
 *
 * @param {Element} parent
 * @param {HTMLElement[]} nodes all children
 * @param {HTMLElement | null} fixed
 */
export function reorderChildren(parent, nodes, fixed) {
  const middle = fixed === null ? nodes.length : nodes.indexOf(fixed);
  let next = parent.firstChild;
  for (let n = 0; n < middle; n++) {
    if (nodes[n] === next) next = next.nextSibling;
    else parent.insertBefore(nodes[n], next);
  }
  let previous = parent.lastChild;
  for (let n = nodes.length - 1; n > middle; n--) {
    if (nodes[n] === previous) previous = previous.previousSibling;
    else parent.insertBefore(nodes[n], previous === null ? null : previous.nextSibling);
  }
}
