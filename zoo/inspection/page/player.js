// One run or two, and the bar that plays them: slider, buttons, keys.

const player = {
  step: 0, playing: false, due: 0, speed: 6,
  hurried: false,  // steps arrive while one looks: like playing, only what can be seen is drawn
  get length() { return Math.max(0, ...page.runs.map(r => r.steps.length)); },

  go(i) {
    if (!this.length) return;
    this.step = Math.max(0, Math.min(this.length - 1, i));
    for (const run of page.runs) if (run.steps.length) show(run, Math.min(this.step, run.steps.length - 1), this.playing || this.hurried);
    const longest = page.runs.reduce((a, b) => b.steps.length > a.steps.length ? b : a), step = longest.steps[this.step];
    this.slider.max = this.length - 1;
    this.slider.value = this.step;
    this.slider.setAttribute("aria-valuetext", `step ${this.step + 1} of ${this.length}: ${step.label}`);
    say(this.where, `${this.step + 1} / ${this.length}`);
    say(this.caption, `${step.label}   ${step.caption}`);
  },

  play(on = !this.playing) {
    if (!on && !this.playing) return;
    if (on && this.step === this.length - 1) this.go(0);
    this.playing = on;
    this.button.textContent = on ? "❚❚" : "▶";
    this.button.setAttribute("aria-label", on ? "pause" : "play");
    this.due = performance.now() + 1000 / this.speed;
    if (!on) this.go(this.step);  // what was out of sight is brought up to date
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
    const speed = el("select", {"aria-label": "steps a second", onchange: e => { this.speed = Number(e.target.value); }},
      ...[1, 3, 6, 15, 30, 60].map(v => el("option", {value: v, selected: v === this.speed}, `${v}/s`)));
    return el("footer", {class: "transport"}, el("div", {},
      el("div", {class: "buttons"}, button("first step (home)", "⇤", () => this.go(0)), button("step back (left)", "←", () => this.go(this.step - 1)), this.button,
        button("step on (right)", "→", () => this.go(this.step + 1)), button("last step (end)", "⇥", () => this.go(this.length - 1))),
      el("div", {class: "slider"}, this.slider), el("div", {class: "where"}, this.where, " ", speed), this.caption));
  },
};

const KEYS = {
  ArrowRight: () => player.go(player.step + 1), ArrowLeft: () => player.go(player.step - 1), Home: () => player.go(0), End: () => player.go(player.length - 1),
  PageDown: () => player.go(player.step + 10), PageUp: () => player.go(player.step - 10), " ": () => player.play(),
  t: () => setTheme(document.documentElement.dataset.theme !== "dark"),
};

function onKey(e) {
  const own = e.target.closest("input:not(#step), select, textarea, [contenteditable]") || (e.key === " " && e.target.closest("button"));
  if (own || e.ctrlKey || e.metaKey || e.altKey || !KEYS[e.key]) return;
  e.preventDefault();
  if (e.key !== " " && e.key !== "t") player.play(false);
  KEYS[e.key]();
}

/** Every panel at step i; if onlySeen, those that can be seen. */
function show(run, i, onlySeen = false) {
  run.shown = i;
  for (const panel of run.made) if (!onlySeen || panel.seen) bring(panel, i);
}

/** A panel at step i, its new data taken in before: stale is "grown", "anew", or nothing. */
function bring(panel, i) {
  if (panel.stale) panel.grow?.(panel.stale === "anew");
  panel.stale = "";
  panel.show(i);
}

const sight = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    const {panel, run} = target.made;
    panel.seen = isIntersecting;
    if (isIntersecting && run.steps.length && (player.playing || player.hurried || panel.stale)) bring(panel, shownOf(run));
  }
});

/** The step that a run shows; one that began anew may not have got so far yet. */
const shownOf = run => Math.min(run.shown ?? 0, run.steps.length - 1);

function redrawRuns(colours) {
  for (const run of page.runs) {
    if (colours) for (const panel of run.made) panel.stale ||= "grown";
    if (run.steps.length) show(run, shownOf(run));
  }
}

function card(data, made) {
  return el("section", {class: "card" + (data.wide ? " wide" : ""), "data-panel": data.kind, "aria-label": data.title},
    el("header", {}, el("h3", {}, data.title), data.note ? el("p", {class: "note"}, data.note) : null), made.element);
}

/** A panel of a run and its card; it takes the place of the one that has its name. */
function place(run, data) {
  const panel = {...panels[data.kind](data, run), name: data.name, data, stale: "anew"}, box = card(data, panel), old = run.made.findIndex(p => p.name === data.name);
  panel.box = box;
  box.made = {panel, run};
  sight.observe(box);
  if (old >= 0) {
    run.made[old].box.replaceWith(box);
    run.made[old] = panel;
  } else {
    run.made.push(panel);
    (data.stage ? run.stage : run.side).append(box);
  }
}

function buildRun(run) {
  run.made = [];
  run.stage = el("div", {class: "stage"});
  run.side = el("div", {class: "panels"});
  for (const data of run.panels) place(run, data);
  run.element = el("article", {class: "run", "aria-label": run.title}, el("header", {}, el("h2", {}, run.title), el("span", {class: "note"}, run.note ?? "")), run.stage, run.side);
  return run.element;
}

const header = () => el("header", {class: "top"}, el("h1", {}, "zoo ", el("span", {}, page.name)), el("p", {class: "facts"}, page.facts), themeButton());

function buildPlayer() {
  const runs = el("main", {class: "runs " + (page.runs.length > 1 ? "two" : "one")}, ...page.runs.map(buildRun));
  document.body.append(header(), runs, player.build());
  listeners.push(redrawRuns);
  document.addEventListener("keydown", onKey);
  player.go(Number(hash.get("step") ?? 0));
}

if (page.live) buildLive();
else if (page.runs) buildPlayer();
else buildDemo();
