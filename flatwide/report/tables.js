// Adds to each table a button that saves it and a hint where it scrolls, and to each command a button that copies it.
(() => {
  "use strict";
  const title = (region) =>
    region.getAttribute("aria-label")?.replace(/^Table: /, "") ?? document.getElementById(region.getAttribute("aria-labelledby")).textContent;

  // A number without thousands separators; nothing for a dash.
  const plain = (text) => (text === "–" ? "" : /^[+\-]?\d{1,3}(,\d{3})+$/.test(text) ? text.replaceAll(",", "") : text);
  const rows = (table) => [...table.rows].map((row) => [...row.cells].map((cell) => plain(cell.textContent)));

  const addHint = (region) => {
    const hint = document.createElement("p");
    hint.className = "hint scroll-hint screen-only";
    hint.textContent = "This table scrolls sideways →";
    region.before(hint);
    const update = () => (hint.hidden = region.scrollWidth <= region.clientWidth);
    new ResizeObserver(update).observe(region);
    new ResizeObserver(update).observe(region.querySelector("table"));
  };

  for (const region of document.querySelectorAll(".scroll")) {
    const table = region.querySelector("table");
    addHint(region);
    if (table.id === "run-table") continue; // it saves the rows of all of its pages
    const name = region.dataset.file;
    region.after(
      save.actions(save.button("Save data (CSV)", title(region), () => save.csv(name, rows(table)))),
    );
  }

  for (const block of document.querySelectorAll("pre")) {
    const copy = save.button("Copy", block.getAttribute("aria-label"), async (button) => {
      await save.copy(block.textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    block.before(save.actions(copy));
  }
})();
