// Watching a training, or looking at one afterwards: curves, and what the model can do by now.  Two runs are drawn over each other.

const watch = {runs: [], seen: null, at: null, timer: null};  // at: the snapshot that the slider shows, counted from the first; null follows
const watched = {};  // kind of a snapshot's panel -> (panel) -> element

watched.pictures = panel => {
  const {pictures, columns, labels} = panel, [n, height, width, channels] = pictures.shape;
  const cells = Array.from({length: n}, (_, i) => {
    const canvas = el("canvas", {role: "img", "aria-label": `${panel.title}: picture ${i + 1} of ${n}`});
    paint(canvas, row(pictures, i), height, width, channels === 3 ? "colour" : "ink");
    return canvas;
  });
  return el("div", {class: "grid", style: `grid-template-columns: repeat(${columns}, minmax(0, 1fr))`}, ...labels.map(l => el("span", {class: "note"}, l)), ...cells);
};

watched.points = panel => {
  const points = values(panel.points), W = 320, reach = panel.reach ?? 1.08 * Math.max(1e-6, ...points.map(Math.abs)), at = v => (v / reach + 1) * W / 2;
  const svg = el("svg:svg", {viewBox: `0 0 ${W} ${W}`, role: "img", "aria-label": `${panel.title}: ${counted(points.length / 2, "point")}`, class: "plane"});
  const dot = (p, i, r, fill) => el("svg:circle", {cx: at(p[2 * i]).toFixed(1), cy: at(-p[2 * i + 1]).toFixed(1), r, fill, "fill-opacity": 0.75});
  if (panel.real) svg.append(...Array.from({length: panel.real.shape[0]}, (_, i) => dot(values(panel.real), i, 2, "var(--muted)")));
  svg.append(...Array.from({length: points.length / 2}, (_, i) => dot(points, i, 2.4, panel.labels.length ? DIGIT_HUES[panel.labels[i] % 10] : "var(--ink)")));
  const box = el("div", {class: "surface"});
  if (panel.surface) {
    const canvas = el("canvas", {"aria-hidden": "true"});
    draw(canvas, panel.surface, "signed", "", 1);
    canvas.removeAttribute("role");
    box.append(canvas);
  }
  box.append(svg);
  const legend = panel.surface ? el("p", {class: "legend note"}, el("span", {}, el("i", {class: "plus"}), "believed real"), el("span", {}, el("i", {class: "minus"}), "believed generated"), el("span", {}, "black: samples, grey: data")) : null;
  return el("div", {}, box, legend);
};

watched.text = panel => el("pre", {class: "written", tabindex: "0", role: "group", "aria-label": panel.title}, panel.text);
watched.words = panel => el("ul", {class: "words"}, ...panel.sentences.map(s => el("li", {}, s)));
watched.heat = panel => {
  const canvas = el("canvas", {class: "heat"});
  draw(canvas, panel.array, "heat", panel.title);
  return canvas;
};

const RUN_COLOURS = ["var(--run-a)", "var(--run-b)"], DASHES = ["", "5 3", "2 2", "8 3 2 3"];
const TITLES = {lr: "learning rate", grad_norm: "norm of the gradient", loss: "loss"};

/** Curves of these names over the steps, one colour per run, one dash per name. */
function curves(title, names, runs, key = "rows", log = false) {
  const W = 460, H = 190, left = 52, bottom = 20, lines = [];
  runs.forEach((run, k) => names.forEach((name, j) => {
    const points = run[key].filter(r => Number.isFinite(r[name]) && (!log || r[name] > 0)).map(r => [r.step, log ? Math.log10(r[name]) : r[name]]);
    if (points.length) lines.push({points, k, j, name, last: run[key].findLast(r => Number.isFinite(r[name]))[name]});
  }));
  if (!lines.length) return null;
  const all = lines.flatMap(l => l.points.map(p => p[1])).sort((a, b) => a - b), most = Math.max(1, ...lines.map(l => l.points.at(-1)[0]));
  let low = all[Math.floor(0.005 * (all.length - 1))], high = all[Math.ceil(0.99 * (all.length - 1))];  // without the outliers of the first steps
  if (high - low < 1e-12) { low -= 0.5; high += 0.5; }
  const x = s => left + s / most * (W - left - 6), y = v => 8 + (1 - (Math.max(low, Math.min(high, v)) - low) / (high - low)) * (H - 8 - bottom);
  const show = v => number(log ? 10 ** v : v);
  const svg = el("svg:svg", {viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: from ${show(low)} to ${show(high)}`},
    el("svg:line", {x1: left, x2: W, y1: y(low), y2: y(low), stroke: "var(--line)"}),
    el("svg:text", {x: left - 6, y: y(high) + 9, "text-anchor": "end"}, show(high)), el("svg:text", {x: left - 6, y: y(low), "text-anchor": "end"}, show(low)),
    el("svg:text", {x: left, y: H - 4}, "0"), el("svg:text", {x: W - 4, y: H - 4, "text-anchor": "end"}, most.toLocaleString("en")),
    ...lines.map(l => el("svg:polyline", {fill: "none", stroke: RUN_COLOURS[l.k % 2], "stroke-width": 1.7, "stroke-linejoin": "round", "stroke-dasharray": DASHES[l.j % 4],
      points: l.points.map(([s, v]) => `${x(s).toFixed(1)},${y(v).toFixed(1)}`).join(" ")})));
  const mark = watch.at === null ? null : runs[0].snapshots[watch.at]?.step;
  if (mark) svg.append(el("svg:line", {x1: x(mark), x2: x(mark), y1: 4, y2: H - bottom, stroke: "var(--ink)", "stroke-dasharray": "3 3"}));
  const legend = lines.map(l => el("span", {}, el("svg:svg", {class: "key", viewBox: "0 0 22 6", "aria-hidden": "true"}, el("svg:line", {x1: 0, x2: 22, y1: 3, y2: 3, stroke: RUN_COLOURS[l.k % 2], "stroke-width": 2.5, "stroke-dasharray": DASHES[l.j % 4]})),
    (runs.length > 1 ? runs[l.k].name + " " : "") + l.name + " ", el("b", {class: "number"}, number(l.last))));
  return el("section", {class: "card", "aria-label": title}, el("header", {}, el("h2", {}, title)), svg, el("div", {class: "legend"}, ...legend));
}

const duration = s => s < 90 ? `${s.toFixed(0)} s` : s < 5400 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`;

function drawWatch() {
  const runs = watch.runs;
  const names = key => [...new Set(runs.flatMap(r => r[key].flatMap(row => Object.keys(row))))].filter(n => !["step", "seconds"].includes(n));
  const losses = names("rows").filter(n => !["lr", "grad_norm"].includes(n));
  const isLoss = n => !n.includes("norm") && /loss|bound|reconstruction|kl|^critic|generator|discriminator/i.test(n);
  const groups = [["Losses", losses.filter(isLoss)], ...losses.filter(n => !isLoss(n)).map(n => [n.replaceAll("_", " "), [n]])];
  const status = runs.map((r, k) => {
    const left = r.steps && r.speed ? (r.steps - r.step) / r.speed : null, done = r.steps && r.step >= r.steps;
    return el("div", {class: "progress"}, el("h2", {}, runs.length > 1 ? el("i", {class: `dot run-${k}`}) : null, r.name), el("p", {},
      r.steps ? `step ${r.step.toLocaleString("en")} of ${r.steps.toLocaleString("en")}` : `step ${r.step.toLocaleString("en")}`, ` · ${duration(r.seconds)} so far`,
      r.speed ? ` · ${number(r.speed)} steps per second` : "", done ? " · done" : left === null ? "" : ` · ${duration(left)} left`),
      r.steps ? el("progress", {max: r.steps, value: r.step, "aria-label": `progress of ${r.name}`}) : null);
  });
  watch.status.replaceChildren(...status);
  const charts = [...groups.map(([title, list]) => list.length ? curves(title, list, runs) : null), curves("Learning rate", ["lr"], runs), curves("Norm of the gradient", ["grad_norm"], runs, "rows", true),
    ...names("evaluations").map(n => curves(`Evaluation: ${n}`, [n], runs, "evaluations"))];
  watch.charts.replaceChildren(...charts.filter(Boolean));
  const most = Math.max(0, ...runs.map(r => r.snapshots.length));
  watch.slider.max = Math.max(0, most - 1);
  watch.slider.disabled = most < 2;
  watch.scrub.classList.toggle("hidden", most === 0);
  if (watch.at === null) watch.slider.value = most - 1;
  drawSnapshots();
}

function drawSnapshots() {
  const at = watch.at ?? Infinity, one = watch.runs.length === 1;
  const boxes = watch.runs.flatMap((run, k) => {
    const snapshot = run.snapshots[Math.min(at, run.snapshots.length - 1)];
    return (snapshot?.panels ?? []).map(panel => el("section", {class: "card snapshot", "aria-label": one ? panel.title : `${run.name}: ${panel.title}`},
      el("header", {}, el("h2", {}, one ? null : el("i", {class: `dot run-${k}`}), panel.title), el("p", {class: "note"}, `after ${counted(snapshot.step, "step")}`)), watched[panel.kind](panel)));
  });
  watch.place.replaceChildren(...boxes);
  const first = watch.runs.find(r => r.snapshots.length), snapshot = first?.snapshots[Math.min(at, first.snapshots.length - 1)];
  setText(watch.where, snapshot ? `after ${counted(snapshot.step, "step")}` + (watch.at === null ? " (the newest)" : "") : "");
  watch.slider.setAttribute("aria-valuetext", watch.where.textContent);
}

async function receiveWatch() {
  try {
    const {runs} = await (await ask("watch", {seen: watch.seen})).json();
    runs.forEach((run, k) => {
      const before = watch.runs[k]?.snapshots ?? [], again = before.length && run.step < before.at(-1).step;  // the run began anew
      run.snapshots = [...(again ? [] : before), ...run.snapshots];
    });
    const news = !watch.runs.length || runs.some((run, k) => run.step !== watch.runs[k].step || run.snapshots.length !== watch.runs[k].snapshots.length);
    watch.runs = runs;
    watch.seen = runs.map(run => run.snapshots.at(-1)?.step ?? 0);
    setText(watch.line, "");
    if (news) drawWatch();
  } catch (e) { setText(watch.line, e.message); }
  watch.timer = setTimeout(receiveWatch, 2000);
}

function buildWatch() {
  watch.status = el("div", {class: "statuses"});
  watch.charts = el("div", {class: "charts"});
  watch.place = el("div", {class: "snapshots"});
  watch.where = el("span", {class: "note"});
  watch.line = el("p", {class: "note", role: "status", id: "status"}, "waiting for the first steps …");
  watch.slider = el("input", {type: "range", id: "when", min: 0, max: 0, value: 0, "aria-label": "when in the training", oninput: e => {
    watch.at = Number(e.target.value) === Number(e.target.max) ? null : Number(e.target.value);
    drawWatch();
  }});
  watch.scrub = el("div", {class: "scrub hidden"}, el("label", {for: "when"}, "What it could do"), watch.slider, watch.where);
  document.body.append(el("header", {class: "top"}, el("h1", {}, "zoo ", el("span", {}, "watch")), el("p", {class: "facts"}, page.watch.names.join(" and ")), themeButton()),
    el("main", {class: "watch"}, watch.line, watch.status, watch.scrub, watch.place, watch.charts));
  document.addEventListener("keydown", e => { if (e.key === "t" && !e.ctrlKey && !e.metaKey && !e.altKey) KEYS.t(); });
  listeners.push(() => { if (watch.runs.length) drawWatch(); });
  receiveWatch();
}
