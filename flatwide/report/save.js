// Buttons that save data and pictures as files, and copy text.
const save = (() => {
  "use strict";
  const FORMULA = /^'*[=+\-@\t\r]/; // spreadsheets would evaluate such text
  const NUMBER = /^[+\-]?\d+(\.\d+)?(e[+\-]?\d+)?$/i;

  const file = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  const csvCell = (value) => {
    const text = String(value ?? "");
    const safe = FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csv = (name, rows) =>
    file(`${name}.csv`, "text/csv;charset=utf-8", rows.map((row) => `${row.map(csvCell).join(",")}\n`).join(""));

  // The description names the object of a button for readers who do not see its surroundings.
  const label = (element, text, description) => {
    element.textContent = text;
    element.setAttribute("aria-label", `${text}: ${description}`);
  };
  const button = (text, description, act) => {
    const element = document.createElement("button");
    element.type = "button";
    element.className = "action";
    label(element, text, description);
    element.addEventListener("click", () => act(element));
    return element;
  };

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea"); // without permission for the clipboard
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
  };

  const actions = (...children) => {
    const element = document.createElement("div");
    element.className = "actions";
    element.append(...children);
    return element;
  };

  return { file, csv, button, label, copy, actions };
})();
