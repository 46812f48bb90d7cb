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

  // The filter: a comparison (column, sign, value), quoted text, other text, or a quote that is not closed.
  const WORD = /([^\s=<>!"]*)\s*([=<>!]+)\s*("[^"]*"|[^\s=<>!"]*)|"([^"]*)"|([^\s"]+)|"/g;
  const SIGNS = ["=", "!=", "<", "<=", ">", ">="];
  class FilterProblem extends Error {}
  const fail = (text) => {
    throw new FilterProblem(text);
  };
  const unquoted = (text) => text.replace(/^"(.*)"$/, "$1");

  // Returns a predicate for a comparison with a column in its displayed units; throws a FilterProblem that says what is wrong.
  const comparison = (name, sign, value) => {
    if (!SIGNS.includes(sign)) fail(`unknown comparison “${sign}”; expected one of ${SIGNS.join(" ")}`);
    if (!name) fail(`the column before “${sign}” is missing`);
    const index = indices.get(name);
    if (index === undefined) fail(`unknown column “${name}”; expected one of ${columns.map(({ label }) => plain(label)).join(", ")}`);
    if (!value) fail(`the value after “${name}${sign}” is missing`);
    const column = columns[index];
    const wanted = unquoted(value);
    if (column.kind === "text") {
      if (sign !== "=" && sign !== "!=") fail(`“${name}” is text, which “${sign}” cannot compare; expected = or !=`);
      return (row) => (String(row[index] ?? "").toLowerCase() === wanted) === (sign === "=");
    }
    const limit = Number(wanted.replaceAll(",", "")) / (column.percent ? 100 : 1);
    if (Number.isNaN(limit)) fail(`“${wanted}” is not a number, as the values of “${name}” are`);
    const isNear = (number) => Math.abs(number - limit) <= 1e-9 * Math.abs(limit);
    const holds = {
      "=": isNear,
      "!=": (number) => !isNear(number),
      "<": (number) => number < limit && !isNear(number),
      "<=": (number) => number < limit || isNear(number),
      ">": (number) => number > limit && !isNear(number),
      ">=": (number) => number > limit || isNear(number),
    }[sign];
    return (row) => row[index] !== null && holds(row[index]);
  };

  // Returns the predicates of a filter; throws a FilterProblem with the first problem and its position.
  const conditions = (filterText) =>
    [...filterText.toLowerCase().matchAll(WORD)].map((match) => {
      const [whole, name, sign, value, quoted, word] = match;
      try {
        if (sign) return comparison(name, sign, value);
        if (whole === '"') fail("the closing quote of this text is missing");
        return (row) => texts.get(row).includes(quoted ?? word);
      } catch (problem) {
        fail(`At character ${match.index + 1}: ${problem.message}.`);
      }
    });

  const order = (a, b) => {
    const index = state.column;
    const [x, y] = [a[index], b[index]];
    if (x === null || y === null) return (x === null) - (y === null); // missing values come last in both directions
    const sign = state.direction === "descending" ? -1 : 1;
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y)));
  };
  const collator = new Intl.Collator("en", { numeric: true });

  // Keeps the previous rows while the filter has a problem, such as while a comparison is being typed.
  const find = () => {
    let problem = "";
    try {
      const predicates = conditions(filter.value);
      state.matches = rows.filter((row) => predicates.every((holds) => holds(row)));
    } catch (error) {
      if (!(error instanceof FilterProblem)) throw error;
      problem = error.message;
    }
    filter.setAttribute("aria-invalid", String(problem !== ""));
    byId("filter-problem").textContent = problem;
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
  const saveRuns = () => {
    const value = (row) => row.map((cell, i) => (columns[i].percent && cell !== null ? 100 * cell : cell));
    save.csv("runs", [columns.map(({ label }) => label), ...state.matches.map(value)]);
  };
  document.querySelector(".pager").after(save.actions(save.button("Save data (CSV)", "the runs that match", saveRuns)));
  addEventListener("beforeprint", () => draw(0, MOST_ON_PAPER));
  addEventListener("afterprint", show);
  document.querySelector(".controls").hidden = false;
  show();
})();
