// Leads from one page of a shared group to the other. Links would put the token into the document, and a saved page would
// reveal it.

for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (document.querySelectorAll(".page-link"))) {
  button.addEventListener("click", () => {
    const board = location.pathname.replace(/\/$/, "").replace(/\/today$/, "");
    location.assign(board + button.value);
  });
}
