// The folded groups of the board. The browser remembers them.

const STORAGE_KEY = "progress-folded";
const MAX_GROUPS = 1000;

/** @returns {Set<string>} */
export function readFoldedGroups() {
  try {
    const groups = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "[]");
    return new Set(Array.isArray(groups) ? groups : []);
  } catch {
    return new Set();
  }
}

/**
 * Folds or unfolds a group.
 *
 * @param {Set<string>} folded the folded groups, which are changed
 * @param {string} group
 */
export function toggleGroup(folded, group) {
  if (!folded.delete(group)) folded.add(group);
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify([...folded].slice(-MAX_GROUPS)));
  } catch {
    // Without storage, a group stays folded while the page is open.
  }
}
