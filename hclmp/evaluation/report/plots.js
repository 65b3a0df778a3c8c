// The plots, drawn when they come into view, and again when a choice or the colour scheme changes.
"use strict";

(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const plots = new Map(); // id -> the function that makes traces and layout
  const seen = new Set();
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  // Plotly reads a little HTML in texts; names are the user's
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const withUnit = (text, unit) => (unit ? `${plain(text)} (${plain(unit)})` : plain(text));
  const number = (value) => (value === null ? "unknown" : String(Number(value.toPrecision(3))));
  const finite = (values) => values.filter((v) => v !== null);

  // A colour that was chosen for white paper, on a dark page
  function tone(hex) {
    const parts = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
    const lit = dark.matches ? parts.map((p) => Math.round(p + 0.42 * (255 - p))) : parts;
    return `rgb(${lit.join(",")})`;
  }
  const see = (colour, alpha) => colour.replace("rgb(", "rgba(").replace(")", `,${alpha})`);
  const colourOf = (name) => tone(data.variants.find((v) => v.name === name).colour);

  function axis(title, more) {
    return {
      title: { text: title, standoff: 8 }, gridcolor: style("--line"), linecolor: style("--line"),
      zerolinecolor: style("--line"), automargin: true, ...more,
    };
  }

  function draw(id) {
    const { traces, layout } = plots.get(id)();
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: style("--text"), family: getComputedStyle(document.body).fontFamily, size: 13 },
      margin: { l: 10, r: 10, t: 40, b: 10 }, hovermode: "closest",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false, // a finger scrolls the page
    };
    const config = { displayModeBar: false, responsive: true };
    return Plotly.react(byId(id), traces, { ...base, ...layout }, config);
  }

  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !seen.has(target.id)) {
        seen.add(target.id);
        draw(target.id);
      }
    }
  }, { rootMargin: "400px" });

  function plot(id, make) {
    plots.set(id, make);
    watcher.observe(byId(id));
  }
  const redraw = (...ids) => ids.filter((id) => seen.has(id)).forEach(draw);

  function choose(id, options, then, chosen) {
    const select = byId(id);
    select.replaceChildren(...options.map((text, i) => {
      const option = element("option", text);
      option.value = then.byName ? text : i;
      return option;
    }));
    select.selectedIndex = chosen || 0;
    select.onchange = then;
  }

  // ---- parity

  function parity() {
    const variant = byId("parity-variant").value;
    const i = Number(byId("parity-property").value);
    const [x, y] = data.parity.points[variant][i];
    const property = data.properties[i];
    const kind = property.log ? "log" : "linear";
    const values = finite([...x, ...y]).map((v) => (property.log ? Math.log10(v) : v)).filter(Number.isFinite);
    const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    const margin = 0.05 * (high - low) || 1;
    const range = [low - margin, high + margin];
    const ends = range.map((v) => (property.log ? 10 ** v : v));
    const both = { type: kind, range };
    return {
      traces: [
        {
          x, y, mode: "markers", name: variant,
          marker: { color: see(colourOf(variant), 0.55), size: x.length > 400 ? 5 : 7 },
          hovertemplate: `${data.label} %{x:.4g}<br>predicted %{y:.4g}<extra></extra>`,
        },
        { x: ends, y: ends, mode: "lines", line: { color: style("--soft"), width: 1 }, hoverinfo: "skip" },
      ],
      layout: {
        showlegend: false, margin: { l: 10, r: 10, t: 10, b: 10 },
        xaxis: axis(withUnit(data.label, property.unit), both),
        yaxis: axis(withUnit("predicted", property.unit), both),
      },
    };
  }

  // ---- calibration

  function calibration() {
    const { nominal, observed } = data.calibration;
    const lines = data.variants.map(({ name }) => ({
      x: nominal, y: observed[name], name, mode: "lines", hovertemplate: `${plain(name)}: %{y:.0%} in the %{x:.0%} interval<extra></extra>`,
      line: { color: colourOf(name), width: name === data.shown ? 3 : 1.5 },
    }));
    const diagonal = { x: [0, 1], y: [0, 1], mode: "lines", line: { color: style("--soft"), width: 1 }, hoverinfo: "skip", showlegend: false };
    const share = { range: [0, 1], tickformat: ".0%" };
    return { traces: [diagonal, ...lines], layout: { xaxis: axis("level of the interval", share), yaxis: axis("labels that it holds", share) } };
  }

  // ---- one system

  const current = () => data.details[byId("system").value];
  const property = () => Number(byId("property").value);

  function spectrum() {
    const detail = current();
    const c = Number(byId("composition").value);
    const order = data.properties.map((p, i) => i).sort((a, b) => data.properties[a].coordinate - data.properties[b].coordinate);
    const x = order.map((i) => data.properties[i].coordinate);
    const at = (table) => order.map((i) => table[i][c]);
    const { unit, log } = data.properties[0];
    return { traces: band(x, at(detail.low), at(detail.predicted), at(detail.high), at(detail.true)),
      layout: { xaxis: axis(plain(data.axis)), yaxis: axis(withUnit("value", unit), { type: log ? "log" : "linear" }) } };
  }

  function band(x, low, middle, high, labels) {
    const colour = colourOf(data.shown);
    const edge = { x, mode: "lines", line: { width: 0, color: colour }, hoverinfo: "skip", showlegend: false };
    return [
      { ...edge, y: low },
      { ...edge, y: high, fill: "tonexty", fillcolor: see(colour, 0.25), name: "90 % interval", showlegend: true },
      { x, y: middle, mode: "lines", name: "predicted", line: { color: colour, width: 2 } },
      { x, y: labels, mode: "markers", name: data.label, marker: { color: style("--text"), size: 7 } },
    ];
  }

  function compositions() {
    const detail = current();
    const i = property();
    const { name, unit, log } = data.properties[i];
    const key = (c) => detail.true[i][c] ?? detail.predicted[i][c];
    const order = detail.formulas.map((_, c) => c).sort((a, b) => key(a) - key(b));
    const at = (table) => order.map((c) => table[i][c]);
    const formulas = order.map((c) => plain(detail.formulas[c]));
    const [low, middle, high] = [detail.low, detail.predicted, detail.high].map(at);
    const colour = colourOf(data.shown);
    const x = order.map((_, place) => place + 1);
    const hovertemplate = "%{text}<br>%{y:.4g}";
    const few = order.length <= 12;
    return {
      traces: [
        {
          x, y: middle, text: formulas, mode: "markers", name: "predicted", hovertemplate,
          marker: { color: colour, size: 7, symbol: "diamond" },
          error_y: { type: "data", symmetric: false, array: high.map((h, k) => h - middle[k]), arrayminus: low.map((l, k) => middle[k] - l), color: see(colour, 0.6), thickness: 1.2, width: 0 },
        },
        { x, y: at(detail.true), text: formulas, mode: "markers", name: data.label, hovertemplate, marker: { color: style("--text"), size: 7 } },
      ],
      layout: {
        xaxis: axis(few ? "" : `compositions, by ${data.label} value`, few ? { tickvals: x, ticktext: formulas, range: [0.4, x.length + 0.6], tickangle: x.length > 4 ? -40 : 0 } : {}),
        yaxis: axis(withUnit(name, unit), { type: log ? "log" : "linear" }),
      },
    };
  }

  // Ticks of a colour bar over log10 values: whole decades, or 1, 2, 5 where there are few
  function logTicks(low, high) {
    const steps = high - low > 2 ? [1] : [1, 2, 5];
    const ticks = [];
    for (let d = Math.floor(low); d <= Math.ceil(high); d += 1) {
      for (const s of steps) ticks.push(s * 10 ** d);
    }
    const inside = ticks.filter((t) => Math.log10(t) >= low && Math.log10(t) <= high);
    const shown = inside.length > 1 ? inside : [10 ** low, 10 ** high];
    return { tickvals: shown.map(Math.log10), ticktext: shown.map(number) };
  }

  function map(kind) {
    const detail = current();
    const i = property();
    const { unit, log } = data.properties[i];
    const half = detail.high[i].map((h, c) => (h === null ? null : (h - detail.low[i][c]) / 2));
    const values = { true: detail.true[i], predicted: detail.predicted[i], uncertainty: half }[kind];
    const scale = (v) => (v === null ? null : log ? Math.log10(v) : v);
    const spread = finite(kind === "uncertainty" ? half : [...detail.true[i], ...detail.predicted[i]]).map(scale).filter(Number.isFinite);
    const [low, high] = [Math.min(...spread), Math.max(...spread)];
    const kept = detail.formulas.map((_, c) => c).filter((c) => values[c] !== null);
    const share = (e) => kept.map((c) => detail.fractions[e][c]);
    const elements = byId("system").value.split("-");
    const corner = (title) => ({
      title: { text: title }, min: 0, gridcolor: style("--line"), linecolor: style("--soft"),
      tickvals: [0.25, 0.5, 0.75], showticklabels: false, ticks: "",
    });
    const titles = { true: data.label, predicted: "predicted", uncertainty: "uncertainty" };
    return {
      traces: [{
        type: "scatterternary", mode: "markers", sum: 1, a: share(0), b: share(1), c: share(2),
        text: kept.map((c) => `${plain(detail.formulas[c])}<br>${number(values[c])} ${plain(unit)}`),
        hovertemplate: "%{text}<extra></extra>", cliponaxis: false,
        marker: {
          size: kept.length > 150 ? 6 : kept.length > 40 ? 9 : 13, color: kept.map((c) => scale(values[c])),
          cmin: low, cmax: high > low ? high : low + 1, line: { width: 0.5, color: style("--soft") },
          ...(kind === "uncertainty" ? { colorscale: "YlOrRd", reversescale: true } : { colorscale: "Viridis" }),
          colorbar: { thickness: 10, len: 0.8, x: 1.02, outlinewidth: 0, ...(log ? logTicks(low, high) : { nticks: 5 }) },
        },
      }],
      layout: {
        title: { text: withUnit(titles[kind], unit), font: { size: 14 }, x: 0.5 },
        margin: { l: 35, r: 25, t: 70, b: 40 }, dragmode: false,
        ternary: { sum: 1, bgcolor: "rgba(0,0,0,0)", aaxis: corner(elements[0]), baxis: corner(elements[1]), caxis: corner(elements[2]) },
      },
    };
  }

  const MAPS = ["true", "predicted", "uncertainty"];

  function showSystem() {
    const mapped = byId("system").value.split("-").length === 3;
    byId("maps").hidden = !mapped;
    byId("no-map").hidden = mapped;
    if (data.spectrum) {
      const detail = current();
      const names = detail.formulas.map((f, c) => (detail.errors[c] === null ? f : `${f} (error ${detail.errors[c].toFixed(2)})`));
      choose("composition", names, () => redraw("detail-plot"), detail.middle);
    }
    showProperty();
  }

  function showProperty() {
    const mapped = !byId("maps").hidden;
    redraw("detail-plot", ...(mapped ? MAPS.map((kind) => `map-${kind}`) : []));
  }

  function step(by) {
    const select = byId("composition");
    select.selectedIndex = (select.selectedIndex + by + select.length) % select.length;
    redraw("detail-plot");
  }

  // ---- the others

  function heat(kind) {
    const names = data.correlation.names.map(plain);
    const few = names.length <= 12;
    const ticks = { tickvals: names.map((_, i) => i), ticktext: names, showgrid: false, tickfont: { size: few ? 11 : 8 }, zeroline: false };
    return {
      traces: [{
        type: "heatmap", z: data.correlation.maps[kind], zmin: -1, zmax: 1, colorscale: "RdBu",
        colorbar: { thickness: 10, len: 0.7, y: 1, yanchor: "top", outlinewidth: 0, nticks: 5 }, hoverongaps: false,
        text: data.correlation.maps[kind].map((row, i) => row.map((v, j) => `${names[i]}, ${names[j]}: ${v === null ? "not defined" : v.toFixed(2)}`)),
        hovertemplate: "%{text}<extra></extra>",
      }],
      layout: {
        title: { text: kind, font: { size: 14 }, x: 0.5, y: 0.97, yanchor: "top" }, dragmode: false,
        xaxis: axis("", { ...ticks, tickangle: 90, constrain: "domain", constraintoward: "left" }),
        yaxis: axis("", { ...ticks, autorange: "reversed", scaleanchor: "x", constrain: "domain", constraintoward: "top" }),
      },
    };
  }

  function dos() {
    const { energy, materials, unit, energy_unit } = data.dos;
    const { mean, true: real } = materials[Number(byId("material").value)];
    const traces = [
      { x: energy, y: mean, mode: "lines", name: "generated", line: { color: colourOf(data.shown), width: 2 } },
      { x: energy, y: real, mode: "lines", name: "true", line: { color: style("--text"), width: 1.3 } },
    ];
    return { traces, layout: { xaxis: axis(withUnit("energy", energy_unit)), yaxis: axis(withUnit("DOS", unit), { rangemode: "tozero" }) } };
  }

  function losses() {
    const variant = byId("loss-variant").value;
    const { epoch, best, loss, validation_mae } = data.losses[variant];
    const colour = colourOf(variant);
    const traces = [[loss, "y"], [validation_mae, "y2"]].flatMap(([curve, yaxis]) => {
      const edge = { x: epoch, yaxis, mode: "lines", line: { width: 0, color: colour }, hoverinfo: "skip" };
      return [
        { ...edge, y: curve.low },
        { ...edge, y: curve.high, fill: "tonexty", fillcolor: see(colour, 0.25) },
        { x: epoch, y: curve.middle, yaxis, mode: epoch.length > 1 ? "lines" : "markers", line: { color: colour, width: 2 }, hovertemplate: "epoch %{x}: %{y:.3g}<extra></extra>" },
      ];
    });
    const mark = { type: "line", xref: "x", x0: best, x1: best, yref: "paper", y0: 0, y1: 1, line: { color: style("--soft"), width: 1, dash: "dot" } };
    return {
      traces,
      layout: {
        showlegend: false, margin: { l: 10, r: 10, t: 10, b: 10 }, shapes: [mark],
        xaxis: axis("epoch", { anchor: "y2" }),
        yaxis: axis("training loss", { domain: [0.55, 1] }),
        yaxis2: axis("validation error", { domain: [0, 0.45], rangemode: "tozero" }),
      },
    };
  }

  // ---- put together

  const variants = data.variants.map((v) => v.name);
  const names = data.properties.map((p) => (p.coordinate === null ? p.name : `${p.name} at ${p.coordinate}`));
  const named = (then) => Object.assign(then, { byName: true });

  choose("parity-variant", variants, named(() => redraw("parity-plot")), variants.indexOf(data.shown));
  choose("parity-property", names, () => redraw("parity-plot"));
  plot("parity-plot", parity);
  plot("calibration-plot", calibration);

  const largest = Object.entries(data.details).reduce((a, b) => (b[1].of > a[1].of ? b : a))[0];
  const systems = Object.keys(data.details).sort();
  choose("system", systems, named(showSystem), systems.indexOf(largest));
  choose("property", names, showProperty);
  showSystem();
  plot("detail-plot", data.spectrum ? spectrum : compositions);
  for (const kind of MAPS) plot(`map-${kind}`, () => map(kind));
  if (data.spectrum) {
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
  }

  for (const kind of Object.keys(data.correlation?.maps ?? {})) plot(`correlation-${kind}`, () => heat(kind));
  if (data.dos) {
    choose("material", data.dos.materials.map((m) => m.formula), () => redraw("dos-plot"));
    plot("dos-plot", dos);
  }
  const trained = Object.keys(data.losses);
  if (trained.length) {
    choose("loss-variant", variants.filter((v) => trained.includes(v)), named(() => redraw("loss-plot")));
    plot("loss-plot", losses);
  }
  dark.addEventListener("change", () => redraw(...seen));
})();
