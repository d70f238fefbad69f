// One run or two, and the bar that plays them: slider, buttons, keys.

const player = {
  step: 0, playing: false, due: 0, speed: 6,
  get length() { return Math.max(...page.runs.map(r => r.steps.length)); },

  go(i) {
    this.step = Math.max(0, Math.min(this.length - 1, i));
    for (const run of page.runs) show(run, Math.min(this.step, run.steps.length - 1), this.playing);
    const step = page.runs[0].steps[Math.min(this.step, page.runs[0].steps.length - 1)];
    this.slider.value = this.step;
    this.slider.setAttribute("aria-valuetext", `step ${this.step + 1} of ${this.length}: ${step.label}`);
    this.where.textContent = `${this.step + 1} / ${this.length}`;
    this.caption.textContent = `${step.label}   ${step.caption}`;
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
    this.slider = el("input", {type: "range", id: "step", min: 0, max: this.length - 1, value: 0, "aria-label": "step", oninput: e => { const i = Number(e.target.value); this.play(false); this.go(i); }});
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

/** Every panel at step i; while playing, only those that can be seen. */
function show(run, i, onlySeen = false) {
  run.shown = i;
  for (const panel of run.made) if (!onlySeen || panel.seen) panel.show(i);
}

const sight = new IntersectionObserver(entries => {
  for (const {target, isIntersecting} of entries) {
    const {panel, run} = target.made;
    panel.seen = isIntersecting;
    if (isIntersecting && player.playing) panel.show(run.shown);
  }
});

function card(data, made) {
  return el("section", {class: "card" + (data.wide ? " wide" : ""), "data-panel": data.kind, "aria-label": data.title},
    el("header", {}, el("h3", {}, data.title), data.note ? el("p", {class: "note"}, data.note) : null), made.element);
}

function buildRun(run) {
  run.made = [];
  const stage = el("div", {class: "stage"}), side = el("div", {class: "panels"});
  for (const data of run.panels) {
    const made = panels[data.kind](data, run);
    run.made.push(made);
    const box = card(data, made);
    box.made = {panel: made, run};
    sight.observe(box);
    (data.stage ? stage : side).append(box);
  }
  return el("article", {class: "run", "aria-label": run.title}, el("header", {}, el("h2", {}, run.title), el("span", {class: "note"}, run.note ?? "")), stage, side);
}

function buildPlayer() {
  const runs = el("main", {class: "runs " + (page.runs.length > 1 ? "two" : "one")}, ...page.runs.map(buildRun));
  document.body.append(el("header", {class: "top"}, el("h1", {}, "zoo ", el("span", {}, page.name)), el("p", {class: "facts"}, page.facts), themeButton()), runs, player.build());
  listeners.push(() => page.runs.forEach(run => show(run, run.shown ?? 0)));
  document.addEventListener("keydown", onKey);
  player.go(Number(hash.get("step") ?? 0));
}

if (page.runs) buildPlayer();
else buildDemo();
