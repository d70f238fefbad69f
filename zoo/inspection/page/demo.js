// The page of `zoo demo`: one section per model, nothing to play.

const demo = {};

demo.digits = data => {
  const [n, height, width, channels] = data.pictures.shape;
  const canvases = Array.from({length: n}, (_, i) => el("canvas", {role: "img", "aria-label": `picture ${i + 1} of ${n}`}));
  const redraw = () => canvases.forEach((canvas, i) => paint(canvas, row(data.pictures, i), height, width, channels === 3 ? "colour" : "ink"));
  listeners.push(redraw);
  redraw();
  return el("div", {}, el("p", {class: "note"}, data.note), el("div", {class: "digits"}, ...canvases));
};

demo.flow = data => {
  const parts = data.steps.flatMap(({name, array}, i) => {
    const canvas = el("canvas"), redraw = () => draw(canvas, array, array.scale, `${name}, ${array.shape.join(" × ")}`);
    listeners.push(redraw);
    redraw();
    const figure = el("figure", {}, canvas, el("figcaption", {}, name));
    return i ? [el("span", {class: "arrow", "aria-hidden": "true"}, "→"), figure] : [figure];
  });
  return el("div", {}, el("p", {class: "note"}, data.note), el("div", {class: "flow"}, ...parts));
};

demo.text = data => {
  const body = el("div", {class: "text"}, el("span", {class: "prompt"}, data.prompt));
  data.pieces.forEach(([text, p], i) => body.append(el("span", {title: `${visible(text)}: ${percent(p)}`,
    style: `background:color-mix(in srgb, var(--accent) ${Math.round(45 * (1 - p))}%, transparent)`}, text)));
  return el("div", {}, el("p", {class: "note"}, data.note), body);
};

demo.command = data => el("pre", {class: "command"}, data.text);

function buildDemo() {
  const sections = page.sections.map(s => el("section", {class: "card model", "aria-label": s.title},
    el("header", {}, el("h2", {}, s.title), el("p", {class: "note"}, s.note)), el("div", {class: "parts"}, ...s.parts.map(p => demo[p.kind](p)))));
  document.body.append(el("header", {class: "top"}, el("h1", {}, "zoo ", el("span", {}, page.name)), el("p", {class: "facts"}, page.facts), themeButton()),
    el("main", {class: "demo"}, ...sections));
  document.addEventListener("keydown", e => { if (e.key === "t") KEYS.t(); });
}
