// One run or two, and the bar that plays them: slider, buttons, keys.  A view is a panel on the page: {element, show, grow, name, data, ...}.

const player = {
  step: 0, playing: false, due: 0, speed: 6,
  arriving: false,  // steps arrive from the server: as when playing, only visible panels are drawn
  get length() { return Math.max(0, ...page.runs.map(r => r.steps.length)); },

  go(i) {
    if (!this.length) return;
    this.step = Math.max(0, Math.min(this.length - 1, i));
    for (const run of page.runs) if (run.steps.length) show(run, Math.min(this.step, run.steps.length - 1), this.playing || this.arriving);
    const longest = page.runs.reduce((a, b) => b.steps.length > a.steps.length ? b : a), step = longest.steps[this.step];
    this.slider.max = this.length - 1;
    this.slider.value = this.step;
    this.slider.setAttribute("aria-valuetext", `step ${this.step + 1} of ${this.length}: ${step.label}`);
    setText(this.where, `${this.step + 1} / ${this.length}`);
    setText(this.caption, `${step.label}   ${step.caption}`);
  },

  play(on = !this.playing) {
    if (!on && !this.playing) return;
    if (on && this.step === this.length - 1) this.go(0);
    this.playing = on;
    this.button.textContent = on ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", on ? "pause" : "play");
    this.due = performance.now() + 1000 / this.speed;
    if (!on) this.go(this.step);  // panels out of sight are brought up to date
    if (on) requestAnimationFrame(now => this.frame(now));
  },

  frame(now) {
    if (!this.playing) return;
    if (now >= this.due) {
      this.due += 1000 / this.speed;
      if (this.due < now - 250) this.due = now;
      this.go(this.step + 1);
      if (this.step === this.length - 1) this.play(false);
    }
    requestAnimationFrame(t => this.frame(t));
  },

  build() {
    const button = (label, text, action) => el("button", {"aria-label": label, title: label, onclick: action}, text);
    this.slider = el("input", {type: "range", id: "step", min: 0, max: Math.max(0, this.length - 1), value: 0, "aria-label": "step", oninput: e => { const i = Number(e.target.value); this.play(false); this.go(i); }});
    this.button = el("button", {id: "play", "aria-label": "play", title: "play and pause (space)", onclick: () => this.play()}, "▶");
    this.where = el("span", {class: "where", id: "where"});
    this.caption = el("div", {class: "caption note", id: "caption"});
    const speed = el("select", {"aria-label": "steps per second", onchange: e => { this.speed = Number(e.target.value); }},
      ...[1, 3, 6, 15, 30, 60].map(v => el("option", {value: v, selected: v === this.speed}, `${v}/s`)));
    return el("footer", {class: "transport"}, el("div", {},
      el("div", {class: "buttons"}, button("first step (home)", "⇤", () => this.go(0)), button("step back (left)", "←", () => this.go(this.step - 1)), this.button,
        button("step forward (right)", "→", () => this.go(this.step + 1)), button("last step (end)", "⇥", () => this.go(this.length - 1))),
      el("div", {class: "slider"}, this.slider), el("div", {class: "where"}, this.where, " ", speed), this.caption));
  },
};

const KEYS = {
  ArrowRight: () => player.go(player.step + 1), ArrowLeft: () => player.go(player.step - 1), Home: () => player.go(0), End: () => player.go(player.length - 1),
  PageDown: () => player.go(player.step + 10), PageUp: () => player.go(player.step - 10), " ": () => player.play(),
  t: () => setTheme(document.documentElement.dataset.theme !== "dark"),
};

function onKey(e) {
  const handled = e.target.closest("input:not(#step), select, textarea, [contenteditable]") || (e.key === " " && e.target.closest("button"));
  if (handled || e.ctrlKey || e.metaKey || e.altKey || !KEYS[e.key]) return;
  e.preventDefault();
  if (e.key !== " " && e.key !== "t") player.play(false);
  KEYS[e.key]();
}

/** Show every panel, or every visible panel, at step i. */
function show(run, i, onlyVisible = false) {
  run.shown = i;
  for (const view of run.views) if (!onlyVisible || view.visible) update(view, i);
  showMini(run, i);
}

/** Show a panel at step i, after taking in its new data: stale is "grown", "restarted", or "". */
function update(view, i) {
  if (view.stale) view.grow?.(view.stale === "restarted");
  view.stale = "";
  view.show(i);
}

const visibility = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    const {view, run} = target.panel;
    view.visible = isIntersecting;
    if (isIntersecting && run.steps.length && (player.playing || player.arriving || view.stale)) update(view, shownStep(run));
  }
});

/** The step that a run shows; a run that has restarted may not have reached it yet. */
const shownStep = run => Math.min(run.shown ?? 0, run.steps.length - 1);

function redrawRuns(colours) {
  for (const run of page.runs) {
    if (colours) for (const view of run.views) view.stale ||= "grown";
    if (run.steps.length) show(run, shownStep(run));
  }
}

function card(data, view) {
  if (data.kind === "record") return el("details", {class: "card wide", "data-panel": data.kind}, el("summary", {}, `${data.title}: ${data.note}`), view.element);
  return el("section", {class: "card" + (data.wide ? " wide" : ""), "data-panel": data.kind, "aria-label": data.title},
    el("header", {}, el("h3", {}, data.title), data.note ? el("p", {class: "note"}, ...explained(data.note)) : null), view.element);
}

/** Build a panel of a run and its card; it replaces the panel with the same name. */
function place(run, data) {
  const view = {...panels[data.kind](data, run), name: data.name, data, stale: "restarted"}, box = card(data, view), old = run.views.findIndex(v => v.name === data.name);
  view.box = box;
  box.panel = {view, run};
  visibility.observe(box);
  if (old >= 0) {
    run.views[old].box.replaceWith(box);
    run.views[old] = view;
  } else {
    run.views.push(view);
    (data.stage ? run.stage : run.side).append(box);
  }
}

function buildRun(run) {
  run.views = [];
  run.stage = el("div", {class: "stage"});
  run.side = el("div", {class: "panels"});
  for (const data of run.panels) place(run, data);
  run.element = el("article", {class: "run", "aria-label": run.title}, el("header", {}, el("h2", {}, run.title), el("span", {class: "note"}, run.note ?? "")), run.stage, run.side);
  return run.element;
}

/** about: a sentence that says what the model is. */
const header = (about = "") => el("header", {class: "top"}, el("h1", {}, "zoo ", el("span", {}, page.name)), el("p", {class: "facts"}, page.facts), themeButton(),
  el("p", {class: about ? "lead" : "lead hidden"}, about));

function buildPlayer() {
  const runs = el("main", {class: "runs " + (page.runs.length > 1 ? "two" : "one")}, ...page.runs.map(buildRun));
  document.body.append(header(page.about), buildMini(), player.build(), runs);  // the player comes before the panels in the order of the keyboard
  listeners.push(redrawRuns);
  document.addEventListener("keydown", onKey);
  player.go(Number(hash.get("step") ?? player.length - 1));  // the result first
}

if (page.start && hash.has("story") && hash.get("story") in page.start.stories) buildStory(hash.get("story"));
else if (page.start) buildStart();
else if (page.pad) buildPad();
else if (page.watch) buildWatch();
else if (page.live) buildLive();
else buildPlayer();
