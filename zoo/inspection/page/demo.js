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

/** A text whose tokens show their probability: to the mouse, and to the arrow keys when it has the focus. */
demo.text = data => {
  const body = el("div", {class: "text", tabindex: "0", role: "group", "aria-label": "generated text; arrow keys move through its tokens"},
    el("span", {class: "prompt"}, data.prompt)), reading = el("p", {class: "note", role: "status"}, "\u00a0");
  const spans = data.pieces.map(([text, p]) => el("span", {title: `${visible(text)}: ${percent(p)}`,
    style: `background:color-mix(in srgb, var(--accent) ${Math.round(45 * (1 - p))}%, transparent)`}, text));
  body.append(...spans);
  const scroll = follow(body, spans);
  let at = -1;
  function move(to) {
    spans[at]?.classList.remove("now");
    at = Math.max(0, Math.min(spans.length - 1, to));
    spans[at].classList.add("now");
    setText(reading, `token ${at + 1} of ${spans.length}: ${spans[at].title}`);
    scroll(at);
  }
  spans.forEach((span, i) => span.addEventListener("click", () => move(i)));
  body.addEventListener("keydown", e => {
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: spans.length - 1}[e.key];
    if (to === undefined || e.ctrlKey || e.metaKey || e.altKey || !spans.length) return;
    e.preventDefault();
    move(to);
  });
  return el("div", {}, el("p", {class: "note"}, data.note), body, reading);
};

/** A piano roll, whole. */
demo.roll = data => {
  const view = panels.roll(data), redraw = () => { view.grow(); view.show(data.tokens.length - data.given - 1); };
  listeners.push(redraw);
  redraw();
  return el("div", {}, el("p", {class: "note"}, data.note), view.element);
};

demo.command = data => el("pre", {class: "command", tabindex: "0", role: "group", "aria-label": "commands"}, data.text);

function buildDemo() {
  const sections = page.sections.map(s => el("section", {class: "card model", "aria-label": s.title},
    el("header", {}, el("h2", {}, s.title), el("p", {class: "note"}, s.note)), el("div", {class: "parts"}, ...s.parts.map(p => demo[p.kind](p)))));
  document.body.append(el("header", {class: "top"}, el("h1", {}, "zoo ", el("span", {}, page.name)), el("p", {class: "facts"}, page.facts), themeButton()),
    el("main", {class: "demo"}, ...sections));
  document.addEventListener("keydown", e => { if (e.key === "t") KEYS.t(); });
}
