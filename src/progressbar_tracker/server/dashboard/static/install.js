// Registers the service worker, which makes the dashboard an app. Browsers allow it over HTTPS and from this machine only.

const [, root, digest] = /^(.*\/)static\/([0-9a-f]+)\/[^/]*$/.exec(import.meta.url) ?? [];

/** @param {string} url */
function trustScriptUrl(url) {
  const { trustedTypes } = /** @type {any} */ (globalThis);
  if (trustedTypes === undefined) return url;
  return trustedTypes.createPolicy("service-worker", { createScriptURL: (/** @type {string} */ text) => text }).createScriptURL(url);
}

async function register() {
  try {
    // The digest makes the worker of another version another script, which replaces this one.
    await navigator.serviceWorker.register(trustScriptUrl(`${root}sw.js?${digest}`), { scope: root, updateViaCache: "none" });
  } catch (error) {
    console.info("Without a service worker:", error);
  }
}

if (isSecureContext && "serviceWorker" in navigator && root !== undefined) {
  if (document.readyState === "complete") register();
  else addEventListener("load", register, { once: true });
}
