// The density of the board: comfortable or compact rows. The browser remembers it.

const STORAGE_KEY = "progress-density";

/** Returns whether rows are compact. */
export function isCompact() {
  return document.documentElement.dataset.density === "compact";
}

/**
 * Makes a button switch the density, and applies the remembered one.
 *
 * @param {HTMLButtonElement} button
 * @param {() => void} onChange
 */
export function installDensity(button, onChange) {
  const apply = (/** @type {boolean} */ compact) => {
    document.documentElement.dataset.density = compact ? "compact" : "comfortable";
    button.setAttribute("aria-pressed", String(compact));
  };
  button.addEventListener("click", () => {
    apply(!isCompact());
    try {
      localStorage.setItem(STORAGE_KEY, isCompact() ? "compact" : "comfortable");
    } catch {
      // Without storage, the choice lasts as long as the page.
    }
    onChange();
  });
  addEventListener("storage", ({ key, newValue }) => {
    if (key !== STORAGE_KEY) return;
    apply(newValue === "compact");
    onChange();
  });
  apply(readDensity() === "compact");
  button.hidden = false;
}

function readDensity() {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null; // access may be denied
  }
}
