"use strict";
(() => {
  const specs = new Map();
  const drawn = new Set();
  const NARROW = 620;  // pixels
  // Without the button that sends a figure and its data to plotly's server.
  const unwanted = ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"];
  const config = {displaylogo: false, responsive: true, showSendToCloud: false, modeBarButtonsToRemove: unwanted};
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const cells = JSON.parse(document.getElementById("cells").textContent);
  const unpacked = new Map();

  // Values are gzip in base64: unpacked when first asked for, and kept.
  function values(text, Kind) {
    if (!unpacked.has(text)) {
      const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      unpacked.set(text, new Response(stream).arrayBuffer().then((buffer) => new Kind(buffer)));
    }
    return unpacked.get(text);
  }

  function themed(layout) {
    const axis = {gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true, ticks: ""};
    const all = {...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest"};
    all.font = {color: css("--text"), family: "system-ui, sans-serif", size: 13};
    all.modebar = {bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--text")};
    all.legend = {itemsizing: "constant", ...layout.legend};
    for (const name of ["xaxis", "yaxis"]) {
      all[name] = {...axis, ...layout[name]};
      if (all[name].title) all[name].title = {...all[name].title, standoff: 10};  // below the longest label
    }
    return all;
  }

  // Room for each name and circle: a box that is narrower scrolls.
  function leastWidth(data, layout) {
    const category = layout.xaxis && layout.xaxis.type === "category";
    const names = new Set(category ? data.flatMap((trace) => (trace.orientation === "h" ? [] : Array.from(trace.x || []))) : []);
    const circles = data.map((trace) => (trace.mode === "markers+text" ? trace.x.length : 0));
    return 150 + 13 * names.size + 34 * Math.max(0, ...circles);
  }

  // In a narrow box the legend lies above the figure and the colours are a thin bar (a lying one would put axis titles on the labels).
  function narrowed(data, layout) {
    const thin = (colorbar) => ({...colorbar, thickness: 10, xpad: 4, tickfont: {size: 11}});
    const traces = data.map((trace) => {
      if (trace.colorbar) return {...trace, colorbar: thin(trace.colorbar)};
      if (trace.marker && trace.marker.colorbar) return {...trace, marker: {...trace.marker, colorbar: thin(trace.marker.colorbar)}};
      return trace;
    });
    return [traces, {...layout, legend: {...layout.legend, orientation: "h", x: 0, y: 1.02, yanchor: "bottom"}}];
  }

  // As high as a section of tissue is in the width that it has, so that little stays empty.
  function heightOf(data, layout, room) {
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const {x, y} of data) {
      for (const value of x) { left = Math.min(left, value); right = Math.max(right, value); }
      for (const value of y) { low = Math.min(low, value); high = Math.max(high, value); }
    }
    const [picture] = layout.images || [];
    const ratio = picture ? picture.sizey / picture.sizex : (high - low) / Math.max(1e-9, right - left);
    return Math.round(Math.min(layout.height, Math.max(260, 100 + ratio * (room - 140))));
  }

  // One trace a category, so that the legend hides and shows it; a colour bar for numbers.
  async function coloured(spec, by) {
    const {points, tissue} = spec;
    const [x, y] = [await values(points.x, Float32Array), await values(points.y, Float32Array)];
    const rows = points.rows ? await values(points.rows, Int32Array) : null;
    const at = rows ? (all) => rows.map((row) => all[row]) : (all) => all;
    const type = points.n > 3000 ? "scattergl" : "scatter";
    const size = points.n > 20000 ? 2.5 : points.n > 3000 ? 4 : tissue ? 7 : 5;
    if (by.codes) {
      const all = await values(by.codes, Int16Array), codes = rows ? Int16Array.from(rows, (row) => all[row]) : all;
      const traces = by.labels.map((label, code) => {
        const mine = [];
        codes.forEach((c, i) => { if (c === code) mine.push(i); });
        const marker = {size, color: label.colour, symbol: label.symbol, opacity: tissue ? 1 : 0.75};
        return {type, mode: "markers", name: label.name, x: mine.map((i) => x[i]), y: mine.map((i) => y[i]), marker, hoverinfo: "name"};
      });
      return traces.filter((trace) => trace.x.length);
    }
    let color;
    if (by.levels) {
      const all = await values(by.levels, Uint8Array), step = (by.top - by.low) / cells.levels;
      color = Array.from(rows || all, (entry) => by.low + step * (rows ? all[entry] : entry));
    } else {
      const all = await values(by.values, Float32Array);
      color = Array.from(rows || all, (entry) => (rows ? all[entry] : entry));
    }
    const range = by.low < 0 ? {cmid: 0, colorscale: "RdBu", reversescale: true} : {colorscale: "Viridis"};
    const marker = {size, color, ...range, colorbar: {title: {text: by.name}}};
    return [{type, mode: "markers", x, y, marker, hovertemplate: "%{marker.color:.4g}<extra></extra>"}];
  }

  // The gene that is typed, else the column of the menu.
  function chosen(box) {
    const menu = document.getElementById(`${box.id}-menu`), field = document.getElementById(`${box.id}-gene`);
    const name = field ? field.value.trim() : "", said = document.getElementById(`${box.id}-said`);
    const known = Object.keys(cells.genes).find((gene) => gene.toLowerCase() === name.toLowerCase());
    if (said) said.textContent = name && !known ? "Not among the genes that this page holds: they are in adata.h5ad." : "";
    return known ? {name: known, ...cells.genes[known]} : cells.colourings[Number(menu.value)];
  }

  async function draw(box) {
    const spec = specs.get(box);
    let {data, layout} = spec;
    drawn.add(box);
    if (spec.points) {
      data = await coloured(spec, chosen(box));
      layout = {...layout, showlegend: true};
      if (spec.tissue) {
        const axis = {showgrid: false, zeroline: false, showline: false, showticklabels: false};
        layout.xaxis = {...layout.xaxis, ...axis};
        layout.yaxis = {...layout.yaxis, ...axis, scaleanchor: "x", autorange: "reversed"};
      }
    }
    if (!drawn.has(box)) return;
    const room = box.clientWidth, width = leastWidth(data, layout);
    if (spec.tissue) layout = {...layout, height: heightOf(data, layout, room)};
    if (room < NARROW) [data, layout] = narrowed(data, layout);
    box.style.minHeight = `${layout.height}px`;
    if (width > room) {
      layout = {...layout, width};
      box.tabIndex = 0;
    } else box.removeAttribute("tabindex");
    Plotly.react(box, data, themed(layout), config);
  }

  // Drawn when near the window; those on the graphics card are let go again, since a page may hold only few of them.
  const near = new IntersectionObserver((entries) => {
    for (const {target, isIntersecting} of entries) {
      if (isIntersecting && !drawn.has(target)) draw(target);
      if (!isIntersecting && drawn.has(target) && (specs.get(target).points || {}).n > 3000) {
        Plotly.purge(target);
        drawn.delete(target);
      }
    }
  }, {rootMargin: "800px"});

  for (const box of document.querySelectorAll(".plot")) {
    specs.set(box, JSON.parse(document.getElementById(`${box.id}-data`).textContent));
    near.observe(box);
    const menu = document.getElementById(`${box.id}-menu`), gene = document.getElementById(`${box.id}-gene`);
    if (menu) menu.addEventListener("change", () => { if (gene) gene.value = ""; draw(box); });
    if (gene) gene.addEventListener("change", () => draw(box));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  let waiting;
  addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => drawn.forEach((box) => draw(box)), 200);
  });
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    specs.forEach((spec, box) => draw(box));
  });

  // Numbers sort as numbers (thousands commas off), missing values last.
  function sorted(button) {
    const head = button.closest("th"), body = head.closest("table").tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending", text = head.classList.contains("text");
    const key = (row) => row.cells[head.cellIndex].textContent;
    const number = (row) => parseFloat(key(row).replaceAll(",", ""));
    const rows = Array.from(body.rows).sort((a, b) => {
      if (text) return (up ? 1 : -1) * key(a).localeCompare(key(b), "en", {numeric: true});
      const [x, y] = [number(a), number(b)];
      return Number.isNaN(x) - Number.isNaN(y) || (up ? x - y : y - x);
    });
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows);
  }

  function saved(table, name) {
    const quoted = (cell) => `"${cell.textContent.trim().replaceAll('"', '""')}"`;
    const lines = Array.from(table.rows).filter((row) => !row.hidden).map((row) => Array.from(row.cells, quoted).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.join("\r\n")}\r\n`], {type: "text/csv"}));
    link.download = `${name}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  for (const button of document.querySelectorAll("button.sort")) button.addEventListener("click", () => sorted(button));
  for (const button of document.querySelectorAll("button[data-csv]")) {
    button.addEventListener("click", () => saved(document.getElementById(button.dataset.csv), button.dataset.csv));
  }
  for (const field of document.querySelectorAll("input[type=search]")) {
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of document.getElementById(field.dataset.table).tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
      }
    });
  }
})();
