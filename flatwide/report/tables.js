// Adds to each table a button that saves it and a hint where it scrolls, and to each command a button that copies it.
(() => {
  "use strict";

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
    const title = region.getAttribute("aria-label").replace(/^Table: /, "");
    const saveTable = () => save.csv(region.dataset.file, rows(table));
    region.after(save.actions(save.button(region.dataset.save ?? "Save data (CSV)", title, saveTable)));
  }

  for (const block of document.querySelectorAll("pre")) {
    const description = block.getAttribute("aria-label");
    const copy = save.button("Copy", description, async (button) => {
      await save.copy(block.textContent);
      save.label(button, "Copied", description);
      setTimeout(() => save.label(button, "Copy", description), 2000);
    });
    block.before(save.actions(copy));
  }
})();
