// What can stand beside the picture.  A panel is made once, from its data, and shows any step after that:
// panels[kind](data, run) -> {element, show(i)}.

const panels = {};

/** The picture itself: one array a step. */
panels.picture = (data, run) => {
  const canvas = el("canvas"), caption = el("p", {class: "caption"});
  return {
    element: el("div", {class: "picture"}, canvas, caption),
    show(i) {
      const packed = data.pictures[i], step = run.steps[i];
      draw(canvas, packed, packed.scale, `${step.label}: ${packed.shape.join(" × ")} numbers as a picture`, packed.range ?? null);
      caption.textContent = step.caption;
      caption.classList.toggle("hidden", !step.caption);
    },
  };
};

/** Everything that the record holds: a row a field. */
panels.record = (data, run) => {
  const body = el("tbody"), rows = new Map();
  const head = el("thead", {}, el("tr", {}, ...["field", "value", "mean", "deviation", "from", "to", ""].map(t => el("th", {scope: "col"}, t))));
  function make(name) {
    const cells = Array.from({length: 6}, () => el("td", {class: "number"})), canvas = el("canvas");
    cells[5].append(canvas);
    return {row: el("tr", {"data-field": name}, el("th", {scope: "row", class: "symbol"}, name), ...cells), cells, canvas};
  }
  return {
    element: el("div", {class: "scroll record"}, el("table", {}, head, body)),
    show(i) {
      const fields = run.steps[i].fields;
      const now = fields.map(field => {
        if (!rows.has(field.name)) rows.set(field.name, make(field.name));
        const {row, cells, canvas} = rows.get(field.name);
        const statistics = field.statistics ? field.statistics.map(number) : ["", "", "", ""];
        [field.text, ...statistics].forEach((text, j) => say(cells[j], text));
        cells[0].classList.toggle("shape", Boolean(field.statistics));
        canvas.classList.toggle("hidden", !field.picture);
        if (field.picture) draw(canvas, field.picture, field.picture.scale, `${field.name} as a picture`);
        return row;
      });
      if (now.length !== body.children.length || now.some((r, k) => r !== body.children[k])) body.replaceChildren(...now);
    },
  };
};

/** Rows of small pictures, one column a step; a click goes there. */
panels.strip = (data, run) => {
  const rows = data.rows.map(r => ({...r, canvas: el("canvas"), now: el("div", {class: "now"})}));
  const size = data.size ?? 56, gap = 1;
  function redraw() {
    for (const r of rows) {
      const [n, h, w] = r.pictures.shape, deep = r.pictures.shape[3] ?? 1, all = values(r.pictures), wide = n * (w + gap) - gap;
      const sheet = new Float32Array(h * wide * deep).fill(deep === 3 ? 1 : 0);
      for (let k = 0; k < n; k++) for (let y = 0; y < h; y++) {
        const from = (k * h + y) * w * deep;
        sheet.set(all.subarray(from, from + w * deep), (y * wide + k * (w + gap)) * deep);
      }
      paint(r.canvas, sheet, h, wide, deep === 3 ? "colour" : r.scale, r.range ?? null);
      r.canvas.style.height = size + "px";
      r.canvas.style.width = size * wide / h + "px";
      r.canvas.setAttribute("role", "img");
      r.canvas.setAttribute("aria-label", `${r.title}, ${n} steps side by side`);
    }
  }
  const strip = el("div", {class: "strip"}, ...rows.map(r =>
    el("div", {class: "row"}, el("span", {class: "label"}, r.title), el("div", {class: "cells"}, r.canvas, r.now))));
  strip.addEventListener("click", e => {
    const canvas = e.target.closest(".cells")?.firstChild;
    if (!canvas) return;
    const box = canvas.getBoundingClientRect(), n = rows[0].pictures.shape[0];
    player.go(stepOf(Math.min(n - 1, Math.floor((e.clientX - box.left) / box.width * n))));
  });
  const element = el("div", {class: "scroll", tabindex: "0", role: "group", "aria-label": data.title}, strip);
  const stepOf = column => data.columns ? data.columns[column] : column;
  const columnOf = i => data.columns ? data.columns.findLastIndex(c => c <= i) : i;
  listeners.push(redraw);
  redraw();
  return {
    element,
    show(i) {
      const column = Math.max(0, columnOf(i));
      for (const r of rows) {
        const [, h, w] = r.pictures.shape, pitch = size * (w + gap) / h;
        r.now.style.left = column * pitch - 2 + "px";
        r.now.style.width = size * w / h + 4 + "px";
        const left = column * pitch;
        if (left < element.scrollLeft || left + 2 * pitch > element.scrollLeft + element.clientWidth) element.scrollLeft = left - element.clientWidth / 2;
      }
    },
  };
};

/** Numbers over the steps as lines, and where we are. */
panels.curve = (data, run) => {
  const W = 360, H = 150, left = 44, bottom = 20, n = Math.max(...data.series.map(s => s.values.length));
  const all = data.series.flatMap(s => s.values).filter(Number.isFinite);
  let low = data.from ?? Math.min(...all), high = Math.max(...all);
  if (high === low) high = low + 1;
  const x = i => left + (n > 1 ? i / (n - 1) : 0) * (W - left - 6), y = v => 6 + (1 - (v - low) / (high - low)) * (H - 6 - bottom);
  const colours = ["var(--accent)", "var(--positive)", "var(--muted)"];
  const svg = el("svg:svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${data.title}, from ${number(low)} to ${number(high)} over ${n} steps`},
    el("svg:line", {x1: left, x2: W, y1: y(low), y2: y(low), stroke: "var(--line)"}),
    el("svg:text", {x: left - 6, y: y(high) + 9, "text-anchor": "end"}, number(high)), el("svg:text", {x: left - 6, y: y(low), "text-anchor": "end"}, number(low)),
    el("svg:text", {x: left, y: H - 4}, "0"), el("svg:text", {x: W - 4, y: H - 4, "text-anchor": "end"}, String(n - 1)));
  data.series.forEach((s, k) => svg.append(el("svg:polyline", {fill: "none", stroke: colours[k % 3], "stroke-width": 1.8, "stroke-linejoin": "round",
    points: s.values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ")})));
  const now = el("svg:line", {y1: 4, y2: H - bottom, stroke: "var(--ink)", "stroke-dasharray": "3 3"});
  const dots = data.series.map((s, k) => el("svg:circle", {r: 3.5, fill: colours[k % 3]}));
  svg.append(now, ...dots);
  const readings = data.series.map((s, k) => el("span", {}, el("i", {style: `background:${colours[k % 3]}`}), s.title + " ", el("span", {class: "number"})));
  return {
    element: el("div", {}, svg, el("div", {class: "legend"}, ...readings)),
    show(i) {
      now.setAttribute("x1", x(i)); now.setAttribute("x2", x(i));
      data.series.forEach((s, k) => {
        const v = s.values[Math.min(i, s.values.length - 1)];
        dots[k].setAttribute("cx", x(i)); dots[k].setAttribute("cy", Number.isFinite(v) ? y(v) : -99);
        readings[k].lastChild.textContent = number(v);
      });
    },
  };
};

/** Numbers with names, a list a step. */
panels.bars = (data, run) => {
  const signed = data.signed, element = el("div", {class: "bars" + (signed ? " signed" : "")});
  const rows = data.labels.map(name => {
    const fill = el("div", {class: "fill"}), value = el("span", {class: "value"});
    element.append(el("span", {}, name), el("div", {class: "track"}, fill), value);
    return {fill, value};
  });
  const all = values(data.values);
  let top = data.percent ? 1 : 1e-12;
  for (const v of all) if (Math.abs(v) > top) top = Math.abs(v);
  return {
    element,
    show(i) {
      const now = row(data.values, Math.min(i, data.values.shape[0] - 1));
      rows.forEach(({fill, value}, k) => {
        const part = now[k] / top;
        if (signed) {
          fill.style.left = "50%"; fill.style.width = "50%"; fill.style.transform = `scaleX(${part})`;
          fill.style.background = part >= 0 ? "var(--positive)" : "var(--negative)";
        } else fill.style.transform = `scaleX(${Math.max(0, part)})`;
        value.textContent = data.percent ? percent(now[k]) : number(now[k]);
      });
    },
  };
};

/** Arrays with names, such as the layers of a network: the first sizes[i] of them at step i. */
panels.arrays = (data, run) => {
  const element = el("div", {class: "flow"});
  const figures = new Map();
  return {
    element,
    show(i) {
      element.replaceChildren(...data.arrays.slice(0, data.sizes[i]).map(({name, array}) => {
        if (!figures.has(name)) figures.set(name, el("figure", {}, el("canvas"), el("figcaption")));
        const figure = figures.get(name);
        draw(figure.firstChild, array, array.scale, `${name}, ${array.shape.join(" × ")}`, array.range ?? null);
        figure.lastChild.textContent = name;
        return figure;
      }));
    },
  };
};

/** Points of the plane, all of them at each step. */
panels.points = (data, run) => {
  const W = 300, [, n] = data.points.shape, scale = v => (v / data.reach + 1) * W / 2;
  const dots = Array.from({length: n}, () => el("svg:circle", {r: 1.8, fill: "var(--accent)", "fill-opacity": 0.6}));
  return {
    element: el("svg:svg", {viewBox: `0 0 ${W} ${W}`, role: "img", "aria-label": `${data.title}: ${n} points`}, el("svg:rect", {width: W, height: W, rx: 8, fill: "var(--soft)"}), ...dots),
    show(i) {
      const now = row(data.points, i);
      dots.forEach((dot, k) => { dot.setAttribute("cx", scale(now[2 * k]).toFixed(1)); dot.setAttribute("cy", scale(-now[2 * k + 1]).toFixed(1)); });
    },
  };
};

/** One line of words a step: why this happened. */
panels.why = (data, run) => {
  const element = el("p", {class: "why", "aria-live": "polite"});
  return {
    element,
    show(i) {  // **strong** and `token` are all the markup there is
      element.replaceChildren(...data.sentences[i].split(/(\*\*[^*]+\*\*|`[^`]*`)/).map(part =>
        part.startsWith("**") ? el("b", {}, part.slice(2, -2)) : part.startsWith("`") && part.length > 1 ? el("span", {class: "token"}, part.slice(1, -1)) : part));
    },
  };
};

/** Many numbers over time: a column a step, a row a number; what hasn't happened yet is covered. */
panels.timeline = (data, run) => {
  const rows = data.rows.map(r => {
    const [steps, units] = r.values.shape, turned = new Float32Array(steps * units), all = values(r.values), canvas = el("canvas");
    for (let t = 0; t < steps; t++) for (let u = 0; u < units; u++) turned[u * steps + t] = all[t * units + u];
    return {...r, canvas, turned, steps, units, cover: el("div", {class: "cover"})};
  });
  const redraw = () => rows.forEach(r => {
    paint(r.canvas, r.turned, r.units, r.steps, r.scale, r.range ?? 1);
    r.canvas.setAttribute("role", "img");
    r.canvas.setAttribute("aria-label", `${r.title}: ${r.units} numbers over ${r.steps} steps`);
  });
  listeners.push(redraw);
  redraw();
  const readings = rows.map(() => el("span", {class: "number note"}));
  return {
    element: el("div", {class: "timeline"}, ...rows.flatMap((r, k) => [el("div", {class: "note"}, r.title, " ", readings[k]), el("div", {class: "track"}, r.canvas, r.cover)])),
    show(i) {
      rows.forEach((r, k) => {
        r.cover.style.left = 100 * (i + 1) / r.steps + "%";
        const now = row(r.values, Math.min(i, r.steps - 1));
        readings[k].textContent = "mean " + number(now.reduce((a, b) => a + b, 0) / now.length);
      });
    },
  };
};
