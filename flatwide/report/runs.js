// The table of all runs: sortable, filterable and paginated, so that ten thousand rows stay fast.
(() => {
  "use strict";
  const PAGE = 50;
  const MOST_ON_PAPER = 1000;
  const { columns, rows } = JSON.parse(document.getElementById("run-data").textContent);
  const byId = (id) => document.getElementById(id);
  const table = byId("run-table");
  const [head, body] = [table.tHead, table.tBodies[0]];
  const filter = byId("filter");
  const state = { column: null, direction: "none", page: 0, matches: rows };

  const shown = (value, column) => {
    if (value === null) return "";
    if (typeof value !== "number") return value;
    if (column.percent) return (100 * value).toFixed(2);
    if (column.name === "num_params" || column.name === "num_nonzero_params") return value.toLocaleString("en");
    return String(Number(value.toPrecision(5)));
  };
  const texts = new Map(rows.map((row) => [row, row.map((v, i) => shown(v, columns[i])).join(" ").toLowerCase()]));

  const plain = (text) => text.toLowerCase().replace(/ \(%\)$/, "").replaceAll(" ", "_");
  const indices = new Map(columns.flatMap((column, i) => [[plain(column.label), i], [column.name.toLowerCase(), i]]));

  // Returns a predicate for one word of the filter: a comparison with a column in its displayed units, or text of the row.
  const condition = (word) => {
    const [, name, sign, wanted] = word.match(/^([^=<>]+)(<=|>=|=|<|>)(.+)$/) ?? [];
    const index = indices.get(name);
    if (index === undefined) return (row) => texts.get(row).includes(word);
    const column = columns[index];
    const limit = Number(wanted) / (column.percent ? 100 : 1);
    if (column.kind === "text" || Number.isNaN(limit)) {
      return (row) => sign.includes("=") && String(row[index] ?? "").toLowerCase() === wanted;
    }
    const isNear = (value) => Math.abs(value - limit) <= 1e-9 * Math.abs(limit);
    const holds = (value) =>
      (sign.includes("=") && isNear(value)) || (sign.startsWith("<") && value < limit) || (sign.startsWith(">") && value > limit);
    return (row) => row[index] !== null && holds(row[index]);
  };

  const order = (a, b) => {
    const index = state.column;
    const [x, y] = [a[index], b[index]];
    if (x === null || y === null) return (x === null) - (y === null); // missing values come last in both directions
    const sign = state.direction === "descending" ? -1 : 1;
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y)));
  };
  const collator = new Intl.Collator("en", { numeric: true });

  const find = () => {
    const conditions = filter.value.toLowerCase().split(/\s+/).filter(Boolean).map(condition);
    state.matches = rows.filter((row) => conditions.every((holds) => holds(row)));
    if (state.column !== null) state.matches.sort(order);
  };

  const rowElement = (row) => {
    const element = document.createElement("tr");
    row.forEach((value, i) => {
      const cell = document.createElement(i === 0 ? "th" : "td");
      if (i === 0) cell.scope = "row";
      if (columns[i].kind === "text") cell.className = "text";
      cell.textContent = shown(value, columns[i]);
      element.append(cell);
    });
    return element;
  };

  const draw = (first, last) => {
    body.replaceChildren(...state.matches.slice(first, last).map(rowElement));
  };

  const show = () => {
    const total = state.matches.length;
    const pages = Math.max(1, Math.ceil(total / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const first = state.page * PAGE;
    draw(first, first + PAGE);
    const number = (value) => value.toLocaleString("en");
    const of = total === rows.length ? `${number(total)} runs` : `${number(total)} of ${number(rows.length)} runs`;
    const range = total > PAGE ? `, rows ${number(first + 1)} to ${number(Math.min(first + PAGE, total))}` : "";
    byId("filter-count").textContent = `${of}${range}`;
    byId("page-number").textContent = `Page ${state.page + 1} of ${pages}`;
    byId("previous").disabled = state.page === 0;
    byId("next").disabled = state.page === pages - 1;
    document.querySelector(".pager").hidden = pages === 1;
    for (const [i, cell] of [...head.rows[0].cells].entries()) {
      cell.setAttribute("aria-sort", i === state.column ? state.direction : "none");
      const arrow = { ascending: " ▲", descending: " ▼" };
      cell.querySelector("span").textContent = (i === state.column && arrow[state.direction]) || "";
    }
  };

  const sortBy = (index) => {
    const isSame = state.column === index && state.direction === "ascending";
    state.column = index;
    state.direction = isSame ? "descending" : "ascending";
    state.page = 0;
    find();
    show();
  };

  const header = document.createElement("tr");
  columns.forEach((column, i) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    if (column.kind === "text") cell.className = "text";
    const button = document.createElement("button");
    button.type = "button";
    const arrow = document.createElement("span");
    arrow.setAttribute("aria-hidden", "true");
    button.append(column.label, arrow);
    button.addEventListener("click", () => sortBy(i));
    cell.append(button);
    header.append(cell);
  });
  head.append(header);
  filter.addEventListener("input", () => {
    state.page = 0;
    find();
    show();
  });
  byId("previous").addEventListener("click", () => {
    state.page -= 1;
    show();
  });
  byId("next").addEventListener("click", () => {
    state.page += 1;
    show();
  });
  addEventListener("beforeprint", () => draw(0, MOST_ON_PAPER));
  addEventListener("afterprint", show);
  document.querySelector(".controls").hidden = false;
  show();
})();
