"use strict";
(() => {
  const specs = new Map();
  const drawn = new Set();
  // Without the button that sends a figure and its data to plotly's server.
  const unwanted = ["sendChartToCloud", "select2d", "lasso2d", "autoScale2d"];
  const config = {displaylogo: false, responsive: true, showSendToCloud: false, modeBarButtonsToRemove: unwanted};
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const decoded = (text, Kind) => new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);

  function themed(layout) {
    const axis = {gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true, ticks: ""};
    const all = {...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest"};
    all.font = {color: css("--text"), family: "system-ui, sans-serif", size: 13};
    all.modebar = {bgcolor: "rgba(0,0,0,0)", color: css("--quiet"), activecolor: css("--text")};
    all.legend = {itemsizing: "constant", ...layout.legend};
    for (const name of ["xaxis", "yaxis"]) all[name] = {...axis, ...layout[name]};
    return all;
  }

  // One trace a category, so that the legend hides and shows it; a colour bar for numbers.
  function coloured(spec, chosen) {
    const {points, colourings, tissue} = spec;
    const x = decoded(points.x, Float32Array), y = decoded(points.y, Float32Array);
    const type = points.n > 3000 ? "scattergl" : "scatter";
    const size = points.n > 20000 ? 2.5 : points.n > 3000 ? 4 : tissue ? 7 : 5;
    const by = colourings[chosen];
    if (by.values) {
      const color = Array.from(decoded(by.values, Float32Array));
      const marker = {size, color, colorscale: "Viridis", colorbar: {title: {text: by.name}}};
      return [{type, mode: "markers", x, y, marker, hovertemplate: "%{marker.color:.4g}<extra></extra>"}];
    }
    const codes = decoded(by.codes, Int16Array);
    return by.labels.map((label, code) => {
      const mine = [];
      codes.forEach((c, i) => { if (c === code) mine.push(i); });
      const marker = {size, color: label.colour, symbol: label.symbol, opacity: tissue ? 1 : 0.75};
      const at = {x: mine.map((i) => x[i]), y: mine.map((i) => y[i])};
      return {type, mode: "markers", name: label.name, ...at, marker, hoverinfo: "name"};
    }).filter((trace) => trace.x.length);
  }

  function draw(box) {
    const spec = specs.get(box);
    let {data, layout} = spec;
    if (spec.points) {
      const menu = document.getElementById(box.dataset.menu);
      data = coloured(spec, menu ? Number(menu.value) : 0);
      layout = {...layout, showlegend: true};
      if (spec.tissue) {
        const axis = {showgrid: false, zeroline: false, showline: false, showticklabels: false};
        layout.xaxis = {...layout.xaxis, ...axis};
        layout.yaxis = {...layout.yaxis, ...axis, scaleanchor: "x", autorange: "reversed"};
      }
    }
    Plotly.react(box, data, themed(layout), config);
    drawn.add(box);
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
    const menu = document.getElementById(box.dataset.menu);
    if (menu) menu.addEventListener("change", () => draw(box));
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach(draw));
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    specs.forEach((spec, box) => draw(box));
  });

  for (const field of document.querySelectorAll("input[type=search]")) {
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of document.getElementById(field.dataset.table).tBodies[0].rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
      }
    });
  }
})();
