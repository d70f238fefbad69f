// The kinds of panels.  A panel is built from its data and shows any step of them:
// panels[kind](data, run) -> {element, show(i), grow(restarted)?}.
// grow is called when the data have become longer, as they do on a live page, and before the first show; restarted: they belong to a new run.

const panels = {};

/** The picture: one array per step. */
panels.picture = (data, run) => {
  const canvas = el("canvas"), caption = el("p", {class: "caption"});
  return {
    element: el("div", {class: "picture"}, canvas, caption),
    show(i) {
      const packed = data.pictures[i], step = run.steps[i];
      draw(canvas, packed, packed.scale, `${step.label}: ${packed.shape.join(" × ")} numbers as a picture`, packed.range ?? null);
      caption.replaceChildren(step.caption && step.fields.some(f => f.name === "formula") ? formula(step.caption) : step.caption);
      caption.classList.toggle("hidden", !step.caption);
    },
    mini(canvas, i) {
      const packed = data.pictures[i];
      if (packed) draw(canvas, packed, packed.scale, "", packed.range ?? null);
    },
  };
};

/** Everything in the record: one row per field. */
panels.record = (data, run) => {
  const body = el("tbody"), rows = new Map();
  const head = el("thead", {}, el("tr", {}, ...["field", "value", "mean", "standard deviation", "minimum", "maximum", "picture"].map(t => el("th", {scope: "col"}, t))));
  function make(name) {
    const cells = Array.from({length: 6}, () => el("td", {class: "number"})), canvas = el("canvas");
    cells[5].append(canvas);
    return {row: el("tr", {"data-field": name}, el("th", {scope: "row", class: "symbol"}, name), ...cells), cells, canvas};
  }
  return {
    element: el("div", {class: "scroll record", tabindex: "0", role: "group", "aria-label": `${data.title}: scrolls`}, el("table", {}, head, body)),
    show(i) {
      const fields = run.steps[i].fields;
      const now = fields.map(field => {
        if (!rows.has(field.name)) rows.set(field.name, make(field.name));
        const {row, cells, canvas} = rows.get(field.name);
        const statistics = field.statistics ? field.statistics.map(number) : ["", "", "", ""];
        [field.text, ...statistics].forEach((text, j) => setText(cells[j], text));
        cells[0].classList.toggle("shape", Boolean(field.statistics));
        canvas.classList.toggle("hidden", !field.picture);
        if (field.picture) draw(canvas, field.picture, field.picture.scale, `${field.name} as a picture`);
        return row;
      });
      if (now.length !== body.children.length || now.some((r, k) => r !== body.children[k])) body.replaceChildren(...now);
    },
  };
};

/** Rows of small pictures, one column per step; a click on a column goes to that step. */
panels.strip = (data, run) => {
  const rows = Object.keys(data.rows).map(title => ({title, get data() { return data.rows[title]; }, canvas: el("canvas"), now: el("div", {class: "now"})}));
  const size = data.size ?? 56, gap = 1;
  const count = () => data.columns.length;
  function redraw() {
    if (count()) for (const r of rows) {
      const {pictures, scale, range} = r.data, [n, h, w] = pictures.shape, deep = pictures.shape[3] ?? 1, all = values(pictures), wide = n * (w + gap) - gap;
      const sheet = new Float32Array(h * wide * deep).fill(deep === 3 ? 1 : 0);
      for (let k = 0; k < n; k++) for (let y = 0; y < h; y++) {
        const from = (k * h + y) * w * deep;
        sheet.set(all.subarray(from, from + w * deep), (y * wide + k * (w + gap)) * deep);
      }
      paint(r.canvas, sheet, h, wide, deep === 3 ? "colour" : scale, range ?? null);
      r.canvas.style.height = size + "px";
      r.canvas.style.width = size * wide / h + "px";
      r.canvas.setAttribute("role", "img");
      r.canvas.setAttribute("aria-label", `${r.title}, ${counted(n, "step")} side by side`);
    }
  }
  const strip = el("div", {class: "strip"}, ...rows.map(r =>
    el("div", {class: "row"}, el("span", {class: "label"}, r.title), el("div", {class: "cells"}, r.canvas, r.now))));
  strip.addEventListener("click", e => {
    const canvas = e.target.closest(".cells")?.firstChild;
    if (!canvas) return;
    const box = canvas.getBoundingClientRect(), n = count();
    player.go(data.columns[Math.min(n - 1, Math.floor((e.clientX - box.left) / box.width * n))]);
  });
  const element = el("div", {class: "scroll", tabindex: "0", role: "group", "aria-label": data.title}, strip);
  return {
    element,
    grow: redraw,
    show(i) {
      const column = Math.max(0, data.columns.findLastIndex(c => c <= i));
      for (const r of rows) {
        const [, h, w] = r.data.pictures.shape, pitch = size * (w + gap) / h;
        r.now.style.left = column * pitch - 2 + "px";
        r.now.style.width = size * w / h + 4 + "px";
        const left = column * pitch;
        if (left < element.scrollLeft || left + 2 * pitch > element.scrollLeft + element.clientWidth) element.scrollLeft = left - element.clientWidth / 2;
      }
    },
  };
};

/** Numbers over the steps as lines, with the current step marked. */
panels.curve = (data, run) => {
  const W = 360, H = 150, left = 44, bottom = 20, colours = ["var(--accent)", "var(--positive)", "var(--muted)"];
  const svg = el("svg:svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": data.title}), series = Object.values(data.series);
  const now = el("svg:line", {y1: 4, y2: H - bottom, stroke: "var(--ink)", "stroke-dasharray": "3 3"});
  const dots = series.map((_, k) => el("svg:circle", {r: 3.5, fill: colours[k % 3]}));
  const readings = Object.keys(data.series).map((title, k) => el("span", {}, el("i", {style: `background:${colours[k % 3]}`}), title + " ", el("span", {class: "number"})));
  let x, y;
  return {
    element: el("div", {}, svg, el("div", {class: "legend"}, ...readings)),
    grow() {
      const series = Object.values(data.series), n = series[0].length, all = series.flat().filter(Number.isFinite);
      let low = data.from ?? Math.min(...all), high = Math.max(...all, low);
      if (high === low) high = low + 1;
      x = i => left + (n > 1 ? i / (n - 1) : 0) * (W - left - 6);
      y = v => 6 + (1 - (v - low) / (high - low)) * (H - 6 - bottom);
      svg.setAttribute("aria-label", `${data.title}, from ${number(low)} to ${number(high)} over ${counted(n, "step")}`);
      svg.replaceChildren(el("svg:line", {x1: left, x2: W, y1: y(low), y2: y(low), stroke: "var(--line)"}),
        el("svg:text", {x: left - 6, y: y(high) + 9, "text-anchor": "end"}, number(high)), el("svg:text", {x: left - 6, y: y(low), "text-anchor": "end"}, number(low)),
        el("svg:text", {x: left, y: H - 4}, "1"), el("svg:text", {x: W - 4, y: H - 4, "text-anchor": "end"}, String(n)),
        ...series.map((values, k) => el("svg:polyline", {fill: "none", stroke: colours[k % 3], "stroke-width": 1.8, "stroke-linejoin": "round",
          points: values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" ")})), now, ...dots);
    },
    show(i) {
      now.setAttribute("x1", x(i)); now.setAttribute("x2", x(i));
      Object.values(data.series).forEach((values, k) => {
        const v = values[Math.min(i, values.length - 1)];
        dots[k].setAttribute("cx", x(i)); dots[k].setAttribute("cy", Number.isFinite(v) ? y(v) : -99);
        setText(readings[k].lastChild, number(v));
      });
    },
  };
};

/** Named numbers as bars, one set per step. */
panels.bars = (data, run) => {
  const signed = data.signed, element = el("div", {class: "bars" + (signed ? " signed" : "")});
  const rows = data.labels.map(name => {
    const fill = el("div", {class: "fill"}), value = el("span", {class: "value"});
    element.append(el("span", {}, name), el("div", {class: "track"}, fill), value);
    return {fill, value};
  });
  let top;
  return {
    element,
    grow() {
      top = data.percent ? 1 : 1e-12;
      for (const v of values(data.values)) if (Math.abs(v) > top) top = Math.abs(v);
    },
    show(i) {
      const now = row(data.values, i);
      rows.forEach(({fill, value}, k) => {
        const known = !Number.isNaN(now[k]), part = known ? now[k] / top : 0;
        if (signed) {
          fill.style.left = "50%"; fill.style.width = "50%"; fill.style.transform = `scaleX(${part})`;
          fill.style.background = part >= 0 ? "var(--positive)" : "var(--negative)";
        } else fill.style.transform = `scaleX(${Math.max(0, part)})`;
        setText(value, !known ? "–" : data.percent ? percent(now[k]) : number(now[k]));
      });
    },
  };
};

/** Named arrays, such as the layers of a network: the first sizes[i] of them at step i.  steps: each is a step's, to which a click leads. */
panels.arrays = (data, run) => {
  const element = el("div", {class: "flow"});
  const figures = new Map();
  return {
    element,
    show(i) {
      const now = data.arrays.slice(0, data.sizes[i]).map(({name, array}) => {
        if (!figures.has(name)) {
          const canvas = el("canvas"), go = () => { player.play(false); player.go([...figures.keys()].indexOf(name)); };
          figures.set(name, el("figure", {}, data.steps ? el("button", {type: "button", "aria-label": `go to ${name}`, onclick: go}, canvas) : canvas, el("figcaption")));
        }
        const figure = figures.get(name);
        draw(figure.querySelector("canvas"), array, array.scale, `${name}, ${array.shape.join(" × ")}`, array.range ?? null);
        setText(figure.lastChild, name);
        return figure;
      });
      if (now.length !== element.children.length || now.some((f, k) => f !== element.children[k])) element.replaceChildren(...now);
      if (data.steps) now.forEach((f, k) => f.classList.toggle("now", k === i));
    },
  };
};

/** Points of the plane, all of them at every step. */
panels.points = (data, run) => {
  const W = 300, scale = v => (v / data.reach + 1) * W / 2, dots = [];
  const element = el("svg:svg", {viewBox: `0 0 ${W} ${W}`, role: "img"}, el("svg:rect", {width: W, height: W, rx: 8, fill: "var(--soft)"}));
  return {
    element,
    grow() {
      const n = data.points.shape[1] ?? 0;
      while (dots.length < n) { dots.push(el("svg:circle", {r: 1.8, fill: "var(--accent)", "fill-opacity": 0.6})); element.append(dots.at(-1)); }
      element.setAttribute("aria-label", `${data.title}: ${counted(n, "point")}`);
    },
    show(i) {
      const now = row(data.points, i);
      dots.forEach((dot, k) => { dot.setAttribute("cx", scale(now[2 * k]).toFixed(1)); dot.setAttribute("cy", scale(-now[2 * k + 1]).toFixed(1)); });
    },
    mini(canvas, i) {
      const now = row(data.points, i), context = canvas.getContext("2d");
      canvas.width = canvas.height = W;
      context.fillStyle = `rgb(${colour("accent").join(" ")})`;
      for (let k = 0; k < now.length; k += 2) context.fillRect(scale(now[k]) - 2, scale(-now[k + 1]) - 2, 4, 4);
    },
  };
};

/** A few sentences per step: what happened, and why. */
panels.why = (data, run) => {
  // room for the usual number of lines: a line more or less would move everything below it
  const element = el("p", {class: "why", "aria-live": "polite", style: data.lines ? `min-height:${1.6 * data.lines}em` : null});
  return {
    element,
    show(i) {  // **strong**, `token` and $formula$ are all the markup there is
      element.replaceChildren(...data.sentences[i].split(/(\*\*[^*]+\*\*|`[^`]*`|\$[^$]+\$)/).flatMap(part =>
        part.startsWith("**") ? el("b", {}, part.slice(2, -2)) : part.startsWith("`") && part.length > 1 ? el("span", {class: "token"}, part.slice(1, -1))
          : part.startsWith("$") && part.length > 1 ? formula(part.slice(1, -1)) : explained(part)));
    },
  };
};

/** Many numbers over time: one column per step, one row per number; later steps are covered. */
panels.timeline = (data, run) => {
  const rows = Object.keys(data.rows).map(title => ({title, get data() { return data.rows[title]; }, canvas: el("canvas"), cover: el("div", {class: "cover"}), reading: el("span", {class: "number note"})}));
  const steps = r => r.data.values.shape[0];
  function redraw() {
    for (const r of rows) {
      const n = steps(r), units = r.data.values.shape[1] ?? 0, turned = new Float32Array(n * units), all = values(r.data.values);
      if (!n) continue;
      for (let t = 0; t < n; t++) for (let u = 0; u < units; u++) turned[u * n + t] = all[t * units + u];
      paint(r.canvas, turned, units, n, r.data.scale, r.data.range ?? 1);
      r.canvas.setAttribute("role", "img");
      r.canvas.setAttribute("aria-label", `${r.title}: ${counted(units, "number")} over ${counted(n, "step")}`);
    }
  }
  return {
    element: el("div", {class: "timeline"}, ...rows.flatMap(r => [el("div", {class: "note"}, r.title, " ", r.reading), el("div", {class: "track"}, r.canvas, r.cover)])),
    grow: redraw,
    show(i) {
      for (const r of rows) {
        r.cover.style.left = 100 * (i + 1) / steps(r) + "%";
        const now = row(r.data.values, i);
        setText(r.reading, "mean " + number(now.reduce((a, b) => a + b, 0) / now.length));
      }
    },
    /** The first row's last columns up to this step. */
    mini: data.stage ? (canvas, i) => {
      const {values: packed, scale, range} = rows[0].data, units = packed.shape[1], from = Math.max(0, i - 63), columns = i + 1 - from, part = new Float32Array(units * columns);
      for (let t = 0; t < columns; t++) row(packed, from + t).forEach((v, u) => { part[u * columns + t] = v; });
      paint(canvas, part, units, columns, scale, range ?? 1);
    } : null,
  };
};

/** The picture of a step once for each word of the sentence, lit where it took from that word. */
panels.words = (data, run) => {
  const element = el("div", {class: "flow words"}), figures = [];
  return {
    element,
    show(i) {
      const words = data.sentences[i], [, most, height, width] = data.pictures.shape, all = row(data.pictures, i), size = height * width * 3;
      while (figures.length < most) {
        const canvas = el("canvas", {role: "img"}), caption = el("figcaption");
        figures.push({canvas, caption, figure: el("figure", {}, canvas, caption)});
      }
      if (element.children.length !== words.length) element.replaceChildren(...figures.slice(0, words.length).map(f => f.figure));
      words.forEach((word, k) => {
        paint(figures[k].canvas, all.subarray(k * size, (k + 1) * size), height, width, "colour", 1);
        figures[k].canvas.setAttribute("aria-label", `where the picture takes from ${word}, ${percent(data.shares[i][k])} of its attention`);
        setText(figures[k].caption, `${word} ${percent(data.shares[i][k])}`);
      });
    },
  };
};

/** A sound per step, or one for all, as a curve, and a button that plays it; picture: its spectrogram, in the form of the model's. */
panels.sound = (data, run) => {
  const canvas = el("canvas", {role: "img"}), W = 512, H = 96;
  let at = 0;
  const button = el("button", {type: "button", onclick: () => playWave(row(data.waves, at), data.rate)}, "▶ listen");
  const spectrogram = data.picture ? el("canvas") : null, reading = () => (data.waves.shape[1] / data.rate).toFixed(1) + " seconds";
  return {
    element: el("div", {class: "picture"}, spectrogram, canvas, button),
    show(i) {
      at = Math.min(i, data.waves.shape[0] - 1);
      if (spectrogram) draw(spectrogram, data.picture, "ink", `the spectrogram of ${reading()} of sound`);
      const wave = row(data.waves, at), out = new Float32Array(W * H), each = wave.length / W;
      for (let x = 0; x < W; x++) {
        let most = 0;
        for (let k = Math.floor(x * each); k < (x + 1) * each; k++) most = Math.max(most, Math.abs(wave[k]));
        const reach = Math.max(1, Math.round(most * H / 2));
        for (let y = Math.max(0, H / 2 - reach); y < Math.min(H, H / 2 + reach); y++) out[y * W + x] = 1;
      }
      paint(canvas, out, H, W, "ink");
      canvas.setAttribute("aria-label", data.picture ? `a sound as a curve of ${reading()}` : `the sound after ${run.steps[i].label} as a curve of ${reading()}`);
    },
  };
};
