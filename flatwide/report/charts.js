// Draws the charts to fit the width of their containers.
(() => {
  "use strict";
  const WIDEST = 720; // pixels; a wider chart of a few points is mostly empty
  const AXIS = 92; // pixels beside the plot of a chart that is one of several
  const NARROW = 480;

  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("chart-specs");
  const datasets = Object.fromEntries(
    Object.entries(read("chart-data")).map(([name, { columns, rows }]) => [
      name,
      rows.map((row) => Object.fromEntries(row.map((value, i) => [columns[i], value]).filter(([, v]) => v !== null))),
    ]),
  );
  const drawn = new Map(); // element -> { width, view }

  const isNumber = (value) => typeof value === "number";

  // Sets the width of each panel of a chart, so that as many as fit are side by side.
  const fitPanels = (spec, width) => {
    const kind = ["hconcat", "vconcat", "concat"].find((name) => name in spec);
    if (!kind) {
      if (isNumber(spec.width)) spec.width = Math.min(1.5 * spec.width, width - AXIS);
      return;
    }
    const panels = spec[kind];
    const widest = Math.max(...panels.map((panel) => (isNumber(panel.width) ? panel.width : 0)));
    const most = { hconcat: panels.length, vconcat: 1, concat: spec.columns ?? panels.length }[kind];
    const columns = Math.max(1, Math.min(most, Math.floor(width / (widest + AXIS))));
    if (kind === "hconcat" && columns < most) {
      spec.vconcat = spec.hconcat;
      delete spec.hconcat;
      for (const panel of panels) fitPanels(panel, width);
      return;
    }
    if (kind === "concat") spec.columns = columns;
    for (const panel of panels) fitPanels(panel, width / columns);
  };

  // A color scale beside a narrow chart would take most of its width.
  const putScalesOnTop = (part, width) => {
    if (part === null || typeof part !== "object") return;
    for (const [name, child] of Object.entries(part)) {
      if (name === "color" && child.type === "quantitative" && child.legend !== null) {
        const bar = { orient: "top", direction: "horizontal", gradientLength: width - 120 };
        child.legend = { ...child.legend, ...bar };
      } else putScalesOnTop(child, width);
    }
  };

  // Copies a chart with the data that it names and a suitable width.
  const fitted = (original, width) => {
    const spec = structuredClone(original);
    if (width < NARROW) putScalesOnTop(spec, width);
    if (["hconcat", "vconcat", "concat"].some((kind) => kind in spec)) {
      fitPanels(spec, width);
    } else {
      spec.width = Math.min(width, WIDEST);
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    spec.datasets = datasets;
    spec.background = null;
    spec.config = { ...spec.config, padding: { left: 2, right: 8, top: 6, bottom: 4 } };
    return spec;
  };

  // The buttons above a chart hold the state of its series, shown or hidden.
  const buttons = (name) => [...document.querySelectorAll(`[data-legend="${name}"] button`)];
  const hide = (element) => {
    const name = element.dataset.chart;
    const hidden = buttons(name).filter((button) => button.getAttribute("aria-pressed") === "false");
    const view = drawn.get(element)?.view;
    return view?.signal(`${name}_hidden`, hidden.map((button) => button.dataset.series)).runAsync();
  };

  const tooltip = { disableDefaultStyle: true, id: "vg-tooltip-element" };
  const draw = async (element) => {
    const width = element.clientWidth - 16; // less its padding
    const before = drawn.get(element);
    if (before && Math.abs(before.width - width) < 8) return;
    const spec = fitted(specs[element.dataset.chart], width);
    if (element.closest(".first") && spec.height) spec.height = Math.min(spec.height, width < NARROW ? 170 : 300);
    drawn.set(element, { width, view: before?.view });
    const { view } = await vegaEmbed(element, spec, { actions: false, renderer: "svg", tooltip });
    before?.view?.finalize();
    drawn.set(element, { width, view });
    await hide(element);
  };
  const savePicture = async (element) => {
    const { view } = drawn.get(element);
    const svg = await view.background("white").toSVG(); // on paper and slides the page's own colors are unknown
    view.background(null);
    save.file(`${element.dataset.chart}.svg`, "image/svg+xml", svg);
  };
  const elements = [...document.querySelectorAll(".chart")];
  for (const element of elements) {
    const title = document.getElementById(`figure-${element.dataset.chart}-title`).textContent;
    element.after(save.actions(save.button("Save picture (SVG)", title, () => savePicture(element))));
    for (const button of buttons(element.dataset.chart)) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "false");
        hide(element);
      });
    }
  }
  const drawAll = async () => {
    for (const element of elements) {
      try {
        await draw(element);
      } catch (error) {
        console.error(element.dataset.chart, error);
        element.textContent = "This chart could not be drawn. The table below has its numbers.";
      }
      await new Promise((resume) => setTimeout(resume)); // keeps the page responsive between charts
    }
    document.documentElement.dataset.charts = "drawn";
    dispatchEvent(new Event("chartsdrawn"));
  };
  let waiting;
  let isPrinting = false;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    if (!isPrinting) waiting = setTimeout(drawAll, 150);
  });

  // On paper the numbers of a figure cannot be opened.
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
