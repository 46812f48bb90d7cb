// Draws the charts, as wide as their place is.
(() => {
  "use strict";
  const WIDEST = 720; // pixels; a wider chart of a few points is mostly empty
  const AXIS = 92; // pixels beside the plot of a chart that is one of several

  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("chart-specs");
  const datasets = Object.fromEntries(
    Object.entries(read("chart-data")).map(([name, { columns, rows }]) => [
      name,
      rows.map((row) => Object.fromEntries(row.map((value, i) => [columns[i], value]).filter(([, v]) => v !== null))),
    ]),
  );
  const drawn = new Map(); // element -> { room, view }

  // Copies of a chart with the data that it names, and a width that suits its place.
  const fitted = (original, room) => {
    const spec = structuredClone(original);
    spec.datasets = datasets;
    spec.background = null;
    const parts = ["hconcat", "vconcat", "concat"].find((kind) => kind in spec);
    const inner = spec.facet || spec.repeat ? spec.spec : null;
    if (inner) {
      const one = (typeof inner.width === "number" ? inner.width : 200) + AXIS;
      spec.columns = Math.max(1, Math.min(spec.columns ?? 9, Math.floor(room / one)));
      inner.width = Math.min(inner.width ?? 200, room - AXIS);
    } else if (parts) {
      const needed = spec[parts].reduce((sum, part) => sum + (part.width ?? 200) + AXIS, 0);
      if (parts === "hconcat" && needed > room) {
        spec.vconcat = spec.hconcat;
        delete spec.hconcat;
      }
      for (const part of spec.vconcat ?? spec.concat ?? []) {
        if (typeof part.width === "number") part.width = Math.min(part.width, room - AXIS);
      }
      if (spec.concat) spec.columns = needed > room ? 1 : spec.columns;
    } else if (typeof spec.width !== "object") {
      spec.width = Math.min(room, WIDEST);
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    const columns = Math.max(2, Math.floor(room / 110));
    spec.config = { ...spec.config, legend: { ...spec.config?.legend, columns, titleLimit: room, labelLimit: room } };
    if (spec.config.padding) spec.config.padding = { left: 2, right: 8, top: 6, bottom: 4 };
    return spec;
  };

  const tooltip = { disableDefaultStyle: true, id: "vg-tooltip-element" };
  const draw = async (element) => {
    const room = element.clientWidth - 16; // less its padding
    const before = drawn.get(element);
    if (before && Math.abs(before.room - room) < 8) return;
    const spec = fitted(specs[element.dataset.chart], room);
    drawn.set(element, { room, view: before?.view });
    const { view } = await vegaEmbed(element, spec, { actions: false, renderer: "svg", tooltip });
    before?.view?.finalize();
    drawn.set(element, { room, view });
  };
  const elements = [...document.querySelectorAll(".chart")];
  const drawAll = async () => {
    for (const element of elements) {
      try {
        await draw(element);
      } catch (error) {
        console.error(element.dataset.chart, error);
        element.textContent = "This chart could not be drawn; the table below has its numbers.";
      }
      await new Promise((resume) => setTimeout(resume)); // lets the page answer in between
    }
    document.documentElement.dataset.charts = "drawn";
  };
  let waiting;
  let isPrinting = false;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    if (!isPrinting) waiting = setTimeout(drawAll, 150);
  });

  // On paper nobody opens the numbers of a figure.
  const opened = new Set();
  addEventListener("beforeprint", () => {
    isPrinting = true;
    for (const details of document.querySelectorAll("details:not([open])")) {
      if (details.querySelectorAll("tbody tr").length > 40) continue;
      details.open = true;
      opened.add(details);
    }
  });
  addEventListener("afterprint", () => {
    isPrinting = false;
    for (const details of opened) details.open = false;
    opened.clear();
  });
  drawAll();
})();
