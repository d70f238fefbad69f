// The page of `zoo play`: a form, a tool to change z or a picture by hand, and a run that grows while the server computes it.

const live = {
  model: null,     // the server's description of the model: name, controls, tool
  run: null,       // the run that is being filled; page.runs may have another before it, for comparison
  drawn: 0,        // how many of its steps were there when it was last drawn: a user at the last one follows the new ones
  asking: null,    // the request in progress
  choosing: false, // another model is being loaded: nothing is generated with the one before it any more
  summary: "",     // what the status line says when the run is complete
  fields: {},      // name -> {value(), set(v)} of each control
  tool: null,
};

// --- asking the server

async function ask(place, body, signal) {
  const response = await fetch(place, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), signal})
    .catch(e => { throw e.name === "AbortError" ? e : new Error("The server doesn't answer. Is zoo play still running?"); });
  if (!response.ok) throw new Error((await response.json()).error);
  return response;
}

/** The objects of a stream with one per line, in lists of those that arrive together. */
async function* linesOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    if (lines.length) yield lines.map(line => JSON.parse(line));
  }
}

/** Request a run and fill the page with it.  extra: settings beside those of the form; whole: draw the run when it is complete, at the current step. */
async function generate(extra = {}, whole = false) {
  if (live.choosing) return;
  live.asking?.abort();
  const asking = live.asking = new AbortController(), began = performance.now();
  const slow = setInterval(() => {
    if (!live.drawn) status(`computing … ${((performance.now() - began) / 1000).toFixed(0)} s${performance.now() - began > 3000 ? " (kernels are compiled at their first use)" : ""}`);
  }, 1000);
  if (!whole) {
    busy(true);
    live.drawn = 0;
  }
  try {
    live.request = {...settings(), ...extra};
    const response = await ask("run", {model: live.model.name, ...live.request}, asking.signal);
    if (live.asking !== asking) return;
    const waiting = [];
    live.summary = "stopped";
    for await (const messages of linesOf(response.body)) {
      if (live.asking !== asking) return;
      if (whole) waiting.push(...messages);
      else for (const message of messages) receive(message);
    }
    for (const message of waiting) receive(message);
    finish(whole);
    status(live.summary);
  } catch (e) {
    if (live.asking !== asking) return;
    finish(whole);
    status(e.name === "AbortError" ? "stopped" : e.message, e.name !== "AbortError");
  } finally {
    clearInterval(slow);
    if (live.asking === asking) { live.asking = null; busy(false); }
  }
}

const settings = () => Object.fromEntries(Object.entries(live.fields).map(([name, field]) => [name, field.value()]));

// --- filling the page

function receive(message) {
  if (message.run) begin(message.run, message.command);
  else if (message.step) {
    const run = live.run, byName = new Map(run.views.map(v => [v.name, v]));
    run.steps.push(message.step);
    for (const [name, part] of Object.entries(message.grow)) grow(byName.get(name).data, part);
    for (const view of run.views) view.stale ||= "grown";
    scheduleDrawing();
  } else if (message.panels) {
    for (const data of message.panels) place(live.run, data);
  } else if (message.end) {
    const {seconds, steps} = message.end, s = seconds < 0.1 ? `${(1000 * seconds).toFixed(0)} ms` : `${seconds.toFixed(1)} s`;
    live.summary = `${counted(steps, "step")} in ${s}` + (steps > 20 ? `, ${(steps / seconds).toFixed(0)} per second` : "");
  } else if (message.error) throw new Error(message.error);
}

/** A run begins: panels that look the same are filled again, others are built. */
function begin(fresh, command) {
  const marks = fresh.panels.map(data => JSON.stringify(data)), old = live.run;
  document.getElementById("command").textContent = command;
  document.getElementById("command").classList.toggle("hidden", !command);
  if (old && fresh.panels.every(data => old.views.some(v => v.name === data.name)) && old.views.length === fresh.panels.length) {
    old.steps = [];
    old.element.firstChild.replaceChildren(el("h2", {}, fresh.title), el("span", {class: "note"}, fresh.note));
    fresh.panels.forEach((data, k) => {
      const view = old.views.find(v => v.name === data.name);
      if (view.mark === marks[k]) { Object.assign(view.data, data); view.stale = "restarted"; } else place(old, data);
    });
  } else {
    const element = buildRun(fresh);
    if (old) old.element.replaceWith(element);
    else live.runs.append(element);
    live.run = fresh;
    page.runs = [...page.runs.filter(run => run !== old), fresh];
    arrange();
  }
  live.run.request = live.request;
  live.run.model = live.model.name;
  fresh.panels.forEach((data, k) => { live.run.views.find(v => v.name === data.name).mark = marks[k]; });
}

let scheduled = false;
/** Draw the steps that have arrived, once per frame. */
function scheduleDrawing() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; drawArrived(); });
}

function drawArrived() {
  const n = live.run?.steps.length ?? 0;
  if (!n || !live.asking) return;
  const follows = player.step >= live.drawn - 1 || live.drawn === 0;
  player.arriving = true;
  if (follows) player.go(n - 1);
  else player.go(player.step);
  player.arriving = false;
  live.drawn = n;
  status(live.fields.n ? `${n} of ${live.fields.n.value()}` : counted(n, "step"));
}

/** The run is complete: bring every panel up to date. */
function finish(stay) {
  const n = live.run?.steps.length ?? 0;
  if (!n) return;
  const follows = player.step >= live.drawn - 1 || live.drawn === 0;
  live.drawn = n;
  player.go(!follows || stay ? player.step : n - 1);
  live.tool?.take?.(live.run);
}

function arrange() {
  live.runs.className = "runs " + (page.runs.length > 1 ? "two" : "one");
}

/** What is on the page as a small file's content; `zoo play FILE` shows it again. */
const saved = () => ({zoo: "play", version: 1, model: live.model.name, runs: page.runs.filter(run => run.request && run.model === live.model.name).map(run => run.request)});

function saveFile() {
  if (!live.run?.steps.length) return;
  const address = URL.createObjectURL(new Blob([JSON.stringify(saved(), null, 1)], {type: "application/json"})), name = `zoo-${live.model.name.split(/[\\/]/).pop()}.json`;
  el("a", {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  status(`Saved. Show it again with: zoo play ${name}`);
}

/** Show a saved file's runs, the second beside the first. */
async function restore(shared) {
  for (const [k, request] of shared.runs.entries()) {
    if (k) keepBeside();
    for (const [name, value] of Object.entries(request)) live.fields[name]?.set(value);
    const extra = Object.fromEntries(Object.entries(request).filter(([name]) => !live.fields[name]));
    live.tool?.restore?.(extra);
    await generate(extra);
  }
}

/** Keep this run: the next one will appear beside it. */
function keepBeside() {
  if (!live.run?.steps.length || live.asking) return;
  if (page.runs.length > 1) page.runs.shift().element.remove();
  const kept = live.run, header = kept.element.firstChild;
  header.append(el("button", {type: "button", onclick: () => {
    page.runs = page.runs.filter(run => run !== kept);
    kept.element.remove();
    arrange();
    player.go(player.step);
  }}, "remove"));
  live.run = null;
  status("Kept. Change a setting: the next run appears beside this one.");
}

// --- the form

function status(text, wrong = false) {
  const line = document.getElementById("status");
  setText(line, text);
  line.classList.toggle("wrong", wrong);
}

function busy(on) {
  document.getElementById("stop").disabled = !on;
  document.body.classList.toggle("busy", on);
  if (on) status("computing …");
}

/** Generate again because of a change: a control's name, "make" for the button, "fill" for the tool that fills in. */
function regenerate(name) {
  const extra = live.tool?.settings(name) ?? {};
  clearTimeout(live.timer);
  live.timer = setTimeout(() => generate(extra), 120);
}

/** One control of the form: {element, value(), set(v)}; onChange(name) is called when the user has changed it. */
function field(c, onChange = regenerate) {
  const changed = () => onChange(c.name);
  const id = `set-${c.name}`, label = el("span", {class: "name"}, c.label), note = c.note || null;
  if (c.kind === "text") {
    let last = c.default;
    const take = () => { last = input.value; changed(); };
    const input = el("textarea", {id, rows: 2, maxlength: c.most, spellcheck: "false", title: note, placeholder: "start of the text", onchange: () => { if (input.value !== last) take(); }, onkeydown: e => {
      if (e.key === "Enter" && !e.shiftKey) { e.preventDefault(); take(); }
    }}, c.default);
    return {element: el("label", {class: "field prompt"}, label, input), value: () => input.value, set: v => { input.value = v; }};
  }
  if (c.kind === "choice") {
    const input = el("select", {id, title: note, onchange: changed}, ...Object.entries(c.options).map(([value, text]) => el("option", {value, selected: value === c.default}, text)));
    return {element: el("label", {class: "field"}, label, input), value: () => input.value, set: v => { input.value = v; }};
  }
  if (c.kind === "digit") {
    let value = c.default;
    const buttons = Array.from({length: c.most - c.least + 1}, (_, k) => el("button", {type: "button", role: "radio", onclick: () => { set(c.least + k); changed(); }, onkeydown: e => {
      const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[e.key];
      if (!by) return;
      e.preventDefault();
      e.stopPropagation();
      set(c.least + (value - c.least + by + buttons.length) % buttons.length);
      buttons[value - c.least].focus();
      changed();
    }}, String(c.least + k)));
    const set = v => {
      value = v;
      buttons.forEach((b, k) => { b.setAttribute("aria-checked", String(c.least + k === v)); b.tabIndex = c.least + k === v ? 0 : -1; });
    };
    set(value);
    return {element: el("div", {class: "field digit", id}, label, el("div", {class: "segments", role: "radiogroup", "aria-label": c.label}, ...buttons)), value: () => value, set};
  }
  if (c.kind === "number") {
    const input = el("input", {id, type: "number", min: c.least, max: c.most, value: c.default, title: note, "aria-label": c.label, onchange: changed});
    const another = el("button", {type: "button", title: `another ${c.label}`, "aria-label": `another ${c.label}`, onclick: () => { input.value = Math.floor(Math.random() * 10000); changed(); }}, "↻");
    return {element: el("div", {class: "field"}, label, el("div", {class: "beside"}, input, another)), value: () => Number(input.value), set: v => { input.value = v; }};
  }
  const off = c.off !== null, output = el("b", {});
  const input = el("input", {id, type: "range", min: c.least, max: c.most, step: c.by, value: c.default ?? c.off, title: note, "aria-label": c.label, oninput: showValue, onchange: changed});
  const value = () => off && Number(input.value) === c.off ? null : Number(input.value);
  function showValue() {
    setText(output, value() === null ? "off" : String(Number(Number(input.value).toFixed(2))));
    input.setAttribute("aria-valuetext", output.textContent);
  }
  showValue();
  return {element: el("label", {class: "field"}, el("span", {class: "name"}, c.label, " ", output), input), value, set: v => { input.value = v ?? c.off; showValue(); }};
}

/** Show another model.  Only the answer to the last choice counts: one that arrives late is dropped. */
async function chooseModel(name, shared = null) {
  live.asking?.abort();
  const choosing = live.asking = new AbortController();
  live.choosing = true;
  let model;
  busy(true);
  status(`loading ${name} …`);
  try {
    model = await (await ask("model", {model: name}, choosing.signal)).json();
  } catch (e) {
    if (live.asking !== choosing) return;
    live.asking = null;
    live.choosing = false;
    busy(false);
    if (live.model) document.getElementById("model").value = live.model.name;
    return status(e.name === "AbortError" ? "stopped" : e.message, e.name !== "AbortError");
  }
  if (live.asking !== choosing) return;
  live.asking = null;
  live.choosing = false;
  live.model = model;
  clearTimeout(live.timer);
  live.run?.element.remove();
  page.runs = page.runs.filter(run => run !== live.run);
  live.run = null;
  arrange();
  live.drawn = 0;
  document.querySelector(".top .facts").textContent = live.model.facts;
  document.querySelector(".lead").textContent = live.model.about;
  document.querySelector(".lead").classList.toggle("hidden", !live.model.about);
  live.fields = Object.fromEntries(live.model.controls.map(c => [c.name, field(c)]));
  document.getElementById("fields").replaceChildren(...Object.values(live.fields).map(f => f.element));
  live.tool = live.model.tool ? tools[live.model.tool.kind](live.model.tool) : null;
  live.place.replaceChildren(...(live.tool ? [live.tool.element] : []));
  return shared ? restore(shared) : generate();
}

// --- tools: {element, settings(name): what to add to a request after a change of `name`, take(run): a run is complete, redraw(run)}

const tools = {};

/** The picture of a complete run: {values, height, width, channels}. */
function pictureOf(run) {
  const view = run.views.find(v => v.name === "picture"), at = run.steps.findIndex(s => s.label === "pixels");
  const packed = view?.data.pictures?.[at < 0 ? run.steps.length - 1 : at];
  return packed && {values: values(packed), height: packed.shape[0], width: packed.shape[1], channels: packed.shape[2] ?? 1};
}

/** Sliders for z: while one is dragged, the newest position is computed as soon as the last one is done. */
tools.latent = data => {
  const canvas = el("canvas", {role: "img", "aria-label": "the picture decoded from this z"});
  let moved = false, computing = false, changed = false;
  async function follow() {
    moved = changed = true;
    if (computing) return;
    computing = true;
    while (changed) {
      changed = false;
      await generate({z: Array.from(controls.z)}, true);
    }
    computing = false;
  }
  const controls = latentControls(data, follow);
  function redraw(run) {
    const picture = pictureOf(run);
    if (picture) paint(canvas, picture.values, picture.height, picture.width, picture.channels === 3 ? "colour" : "ink");
  }
  return {
    element: toolCard("Move z yourself", "each slider is one number of z; all layers follow",
      el("div", {class: "decoded"}, el("div", {class: "shown"}, canvas), el("div", {}, controls.buttons, controls.sliders), controls.map)),
    settings(name) {
      if (name === "seed" || name === "make") moved = false;
      return moved ? {z: Array.from(controls.z)} : {};
    },
    redraw,
    restore(request) { if (request.z) { moved = true; controls.z.set(request.z); controls.show(); } },
    take(run) {
      redraw(run);
      if (moved) return;
      const z = run.steps.find(s => s.label === "z" || s.label === "z1")?.fields.find(f => f.name === "value").picture;
      if (z) { controls.z.set(values(z)); controls.show(); }
    },
  };
};

/** A picture to draw on, and to cover; the model fills in the covered part. */
tools.paint = data => {
  const [height, width, channels = 1] = data.image, n = height * width;
  const pixels = new Float32Array(n * channels), covered = new Uint8Array(n);
  const canvas = el("canvas", {id: "paint", role: "img", tabindex: "0"}), over = el("canvas", {class: "over", "aria-hidden": "true"});
  let brush = "cover", size = 2, edited = false, filling = false;  // edited: by the user, so no run replaces it
  function redraw() {
    paint(canvas, pixels, height, width, channels === 3 ? "colour" : "ink");
    over.width = width; over.height = height;
    const context = over.getContext("2d"), [r, g, b] = colour("positive");
    context.fillStyle = `rgb(${r} ${g} ${b})`;
    covered.forEach((c, i) => { if (c) context.fillRect(i % width, Math.floor(i / width), 1, 1); });
    const share = covered.reduce((a, c) => a + c, 0) / n;
    canvas.setAttribute("aria-label", `the picture to paint on; ${percent(share)} of it is covered`);
    fill.disabled = share === 0;
    uncover.disabled = share === 0;
  }
  function cover(test) { for (let i = 0; i < n; i++) if (test(i % width, Math.floor(i / width))) covered[i] = 1; redraw(); }
  function dab(x, y) {
    for (let i = 0; i < n; i++) {
      const dx = i % width + 0.5 - x, dy = Math.floor(i / width) + 0.5 - y;
      if (dx * dx + dy * dy > size * size) continue;
      if (brush === "cover" || brush === "uncover") covered[i] = brush === "cover" ? 1 : 0;
      else { pixels.fill(brush === "ink" ? 1 : 0, i * channels, (i + 1) * channels); edited = true; }
    }
  }
  let last = null;
  function stroke(e) {
    if (e.type === "pointerdown") { e.preventDefault(); canvas.setPointerCapture(e.pointerId); last = null; }
    else if (!e.buttons) return;
    const box = canvas.getBoundingClientRect(), x = (e.clientX - box.left) / box.width * width, y = (e.clientY - box.top) / box.height * height;
    const [x0, y0] = last ?? [x, y], dabs = Math.ceil(Math.hypot(x - x0, y - y0)) || 1;
    for (let k = 1; k <= dabs; k++) dab(x0 + (x - x0) * k / dabs, y0 + (y - y0) * k / dabs);
    last = [x, y];
    redraw();
  }
  for (const type of ["pointerdown", "pointermove"]) canvas.addEventListener(type, stroke);
  const button = (text, onclick, attributes = {}) => el("button", {type: "button", onclick, ...attributes}, text);
  const brushes = ["cover", "uncover", "ink", "erase"].map(name =>
    button(name, e => { brush = name; brushes.forEach(b => b.setAttribute("aria-pressed", String(b === e.target))); }, {"aria-pressed": String(name === brush)}));
  const sizes = el("input", {type: "range", min: 0.6, max: 5, step: 0.2, value: size, "aria-label": "size of the brush", oninput: e => { size = Number(e.target.value); }});
  const repeats = field(data.repeats, () => {});
  const fill = button("Fill in the covered part", () => { filling = true; regenerate("fill"); }, {id: "fill", class: "primary"});
  const uncover = button("uncover all", () => { covered.fill(0); redraw(); });
  const bytes = a => btoa(String.fromCharCode(...a));
  const painted = () => ({image: bytes(Uint8Array.from(pixels, v => Math.round(255 * v))), mask: bytes(covered), repeats: repeats.value()});
  function load(run) {
    const picture = pictureOf(run);
    if (picture) { pixels.set(picture.values); edited = false; redraw(); }
  }
  async function testDigit() {
    try {
      const number = Math.floor(Math.random() * 10000);
      pixels.set(values((await (await ask("digit", {model: live.model.name, number})).json()).pixels));
      edited = true;
      redraw();
    } catch (e) { status(e.message, true); }
  }
  redraw();
  return {
    element: toolCard("Paint on the picture", "cover a part of it, and the model fills it in to fit the rest",
      el("div", {class: "painting"}, el("div", {class: "easel"}, canvas, over), el("div", {},
        el("div", {class: "controls"}, el("div", {class: "segments", role: "group", "aria-label": "brush"}, ...brushes), el("label", {}, "size", sizes)),
        el("div", {class: "controls"}, button("cover the left half", () => cover(x => x < width / 2)), button("cover the lower half", () => cover((x, y) => y >= height / 2)), uncover),
        el("div", {class: "controls"}, button("use the generated picture", () => live.run?.steps.length && load(live.run)), data.digits ? button("a test digit", testDigit) : null,
          button("clear", () => { pixels.fill(0); edited = true; redraw(); })),
        el("div", {class: "controls"}, repeats.element, fill)))),
    settings(name) {
      if (name === "make") filling = false;
      return filling && covered.includes(1) ? painted() : {};
    },
    redraw,
    restore(request) {
      if (!request.mask) return;
      const bytesOf = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
      pixels.set(Float32Array.from(bytesOf(request.image), v => v / 255));
      covered.set(bytesOf(request.mask));
      repeats.set(request.repeats);
      edited = filling = true;
      redraw();
    },
    take(run) { if (!edited && !filling) load(run); },
  };
};

const toolCard = (title, note, body) => el("section", {class: "card", id: "tool", "aria-label": title}, el("header", {}, el("h2", {}, title), el("p", {class: "note"}, note)), body);

// --- the whole page

function buildLive() {
  const models = el("select", {id: "model", onchange: e => chooseModel(e.target.value)}, ...page.live.models.map(name => el("option", {value: name}, name)));
  const form = el("form", {class: "card ask", "aria-label": "settings", onsubmit: e => { e.preventDefault(); regenerate("make"); }},
    el("label", {class: "field"}, el("span", {class: "name"}, "model"), models), el("div", {id: "fields"}),
    el("div", {class: "actions"}, el("button", {id: "make", type: "submit", class: "primary"}, "Generate"),
      el("button", {id: "stop", type: "button", onclick: () => live.asking?.abort()}, "Stop"),
      el("button", {id: "beside", type: "button", title: "keep this run; the next one appears beside it", onclick: keepBeside}, "Keep to compare"),
      el("button", {id: "save", type: "button", title: "save the settings as a small file that zoo play and zoo inspect show again", onclick: saveFile}, "Save"),
      el("span", {id: "status", role: "status", class: "note"}), el("code", {id: "command", class: "hidden", title: "this command writes the same into a file"})));
  live.runs = el("main", {class: "runs one"});
  live.place = el("div", {});
  const top = header();
  if (page.live.start) top.prepend(el("a", {href: "."}, "← start"));
  document.body.append(top, buildMini(), el("div", {class: "desk"}, form), player.build(), el("div", {class: "desk"}, live.place), live.runs);
  listeners.push(colours => { redrawRuns(colours); if (colours && live.run) live.tool?.redraw(live.run); });
  document.addEventListener("keydown", onKey);
  if (page.live.models.includes(hash.get("model"))) models.value = hash.get("model");
  const shared = page.live.shared;
  if (shared) models.value = shared.model;
  chooseModel(models.value, shared).then(() => { if (hash.has("model")) playStory(); });
}
