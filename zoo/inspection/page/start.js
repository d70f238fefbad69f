// The start page: tiles that play what their models have computed so far.  A tile is {element, ready(), draw(seconds)}, drawn once per frame.

const start = {tiles: [], clock: 0, before: 0, paused: false, frames: 0};
const stages = {};  // name of a tile -> (data, state) -> {element, ready, draw}; state.complete: nothing will be added to data

const ease = x => x < 0 ? 0 : x > 1 ? 1 : x * x * (3 - 2 * x);

/** One digit turns into the next, rests there, and goes on. */
stages.morph = data => {
  const canvas = el("canvas", {role: "img", "aria-label": "a digit that slowly turns into the next one"}), caption = el("p", {class: "note"}), each = 24;
  let shown = -1;
  return {
    element: el("div", {class: "play square"}, canvas, caption),
    ready: () => count(data.pictures) >= each,
    draw(seconds) {
      const there = Math.floor(count(data.pictures) / each), at = seconds / 1.7 % there, digit = Math.floor(at);
      const frame = digit * each + Math.min(each - 1, Math.floor(each * ease((at - digit) * 1.7 - 0.5)));
      if (frame === shown) return;
      shown = frame;
      paintRow(canvas, data.pictures, frame);
      setText(caption, `from ${digit % 10} to ${(digit + 1) % 10}`);
    },
    redraw() { shown = -1; },
  };
};

/** A text that types itself; a character's colour says how much it surprised the model. */
stages.write = (data, state) => {
  const text = el("div", {class: "typed", role: "img", "aria-label": "a text that the model writes"});
  let typed = 0, began = 0;
  function restart(seconds) { text.replaceChildren(el("span", {class: "prompt"}, data.given)); typed = 0; began = seconds; }
  return {
    element: el("div", {class: "play writing"}, text, el("p", {class: "note"}, el("i", {class: "swatch"}), "the stronger the colour, the more unexpected")),
    ready: () => data.tokens.length > 0,
    draw(seconds) {
      if (!text.firstChild) restart(seconds);
      const due = Math.floor((seconds - began) * 32), end = Math.min(due, data.tokens.length);
      if (end > typed) {
        const p = values(data.probabilities);
        while (typed < end) text.append(el("span", {style: `background:color-mix(in srgb, var(--surprise) ${Math.round(55 * (1 - p[typed]))}%, transparent)`}, data.tokens[typed++]));
        text.scrollTop = 1e6;
      }
      if (typed === data.tokens.length) {
        if (!state.complete) began = seconds - typed / 32;  // it waits for the model
        else if (due > typed + 150) restart(seconds);
      }
    },
  };
};

/** A piano roll that passes under a line; with the sound on, the line is where the music is. */
stages.compose = (data, state) => {
  const canvas = el("canvas", {role: "img", "aria-label": "a piano roll of four voices that passes by"});
  const button = el("button", {type: "button", onclick: () => {
    if (audio.stop) return audio.stop();
    setText(button, "■ stop");
    from = Math.floor(at(start.clock));
    if (!notes.some(note => note.start >= from)) from = 0;
    audio.scheduled = hear(notesOf(data.tokens), from, () => { setText(button, "▶ listen"); began = start.clock - last * SECONDS; });
  }}, "▶ listen");
  const legend = el("div", {class: "legend"}, ...["soprano", "alto", "tenor", "bass"].map((name, v) => el("span", {}, el("i", {style: `background:${VOICES[v]}`}), name)));
  let notes = [], known = 0, began = 0, from = 0, last = 0, low = 48, high = 76;
  /** The sixteenth at the line. */
  function at(seconds) {
    if (audio.stop) return last = from + Math.max(0, (audio.context.currentTime - audio.began) / SECONDS);
    const end = data.tokens.length / 4, now = (seconds - began) / SECONDS;
    if (now > end - 1 && !state.complete) began = seconds - (end - 1) * SECONDS;  // it waits for the model
    else if (now > end + 8) began = seconds;
    return last = Math.max(0, (seconds - began) / SECONDS);
  }
  return {
    element: el("div", {class: "play"}, canvas, el("div", {class: "row"}, button, legend)),
    ready: () => data.tokens.length >= 16 || state.complete,
    draw(seconds) {
      if (data.tokens.length !== known) {
        notes = notesOf(data.tokens);
        known = data.tokens.length;
        for (const {pitch} of notes) { low = Math.min(low, pitch - 1); high = Math.max(high, pitch + 2); }
      }
      drawRoll(canvas, notes, at(seconds), low, high);
    },
  };
};

/** Notes around a line at 30% of the canvas; those that sound are bright. */
function drawRoll(canvas, notes, now, low, high) {
  const ratio = Math.min(2, devicePixelRatio || 1), [width, height] = canvas.box ?? [300, 150], cell = 11;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
  const context = canvas.getContext("2d"), line = 0.3 * width, row = height / (high - low);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.fillStyle = `rgb(${colour("line").join(" ")})`;
  for (let bar = Math.ceil((now - line / cell) / 16) * 16; line + (bar - now) * cell < width; bar += 16) if (bar >= 0) context.fillRect(line + (bar - now) * cell, 0, 1, height);
  for (const {voice, pitch, start: begin, length} of notes) {
    const x = line + (begin - now) * cell, wide = length * cell - 2;
    if (x > width || x + wide < 0) continue;
    context.globalAlpha = begin <= now && now < begin + length ? 1 : now >= begin ? 0.35 : 0.6;
    context.fillStyle = VOICES[voice];
    context.beginPath();
    context.roundRect(x, (high - pitch) * row, Math.max(2, wide), Math.max(3, row - 1), 2);
    context.fill();
  }
  context.globalAlpha = 1;
  context.fillStyle = `rgb(${colour("ink").join(" ")})`;
  context.fillRect(line, 0, 1.5, height);
}

/** Real or forged?  The judge says what it believes; a visitor may guess too, and then the tile waits for him. */
stages.duel = data => {
  const canvas = el("canvas", {role: "img"}), truth = el("b", {class: "truth"}), fill = el("div", {class: "fill"}), belief = el("span", {class: "number"});
  const score = el("p", {class: "note", role: "status"}), guess = real => () => { if (phase !== "told") { guessed = real; playing = true; tell(); } };
  const buttons = el("div", {class: "row"}, el("button", {type: "button", onclick: guess(true)}, "real"), el("button", {type: "button", onclick: guess(false)}, "forged"), truth);
  let k = -1, phase = "", since = 0, guessed = null, playing = false;
  const right = {you: 0, judge: 0}, of = {you: 0, judge: 0};
  function next(seconds) {
    k = (k + 1) % count(data.pictures);
    phase = "asked"; since = seconds; guessed = null;
    paintRow(canvas, data.pictures, k);
    canvas.setAttribute("aria-label", "a digit, real or forged");
    setText(truth, "");
  }
  function tell() {
    const real = data.real[k], p = values(data.beliefs)[k];
    phase = "told"; since = start.clock;
    of.judge++; right.judge += (p > 0.5) === real;
    if (guessed !== null) { of.you++; right.you += guessed === real; }
    truth.className = "truth " + (real ? "real" : "forged");
    setText(truth, real ? "it is real" : "it is forged");
    setText(score, `the judge: ${right.judge} of ${of.judge} right` + (of.you ? ` · you: ${right.you} of ${of.you}` : ""));
  }
  return {
    element: el("div", {class: "play square"}, canvas, el("div", {class: "verdict"}, el("span", {class: "note"}, "the judge believes: real"), el("div", {class: "track"}, fill), belief), buttons, score),
    ready: () => data.real.length > 0,
    draw(seconds) {
      if (k < 0) next(seconds);
      const p = values(data.beliefs)[k], shown = playing && phase === "asked" ? 0 : p * ease((seconds - since) / 0.5 + (phase === "told" && !playing ? 1 : 0));
      fill.style.transform = `scaleX(${shown})`;
      setText(belief, playing && phase === "asked" ? "?" : percent(p));
      if (phase === "asked" && seconds - since > (playing ? 12 : 1.5)) tell();
      else if (phase === "told" && seconds - since > 1.5) next(seconds);
    },
    redraw() { if (k >= 0) paintRow(canvas, data.pictures, k); },
  };
};

/** A row of ten buttons, of which one is chosen, by the mouse or the arrow keys: chosen(k) is called for the visitor's choice alone. */
function digitButtons(chosen) {
  let digit = 0;
  const buttons = Array.from({length: 10}, (_, k) => el("button", {type: "button", role: "radio", onclick: () => chosen(k), onkeydown: e => {
    const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[e.key];
    if (!by) return;
    e.preventDefault(); e.stopPropagation();
    chosen((digit + by + 10) % 10);
    buttons[digit].focus();
  }}, String(k)));
  /** Show that k is chosen; -1: none is. */
  function set(k) {
    digit = Math.max(0, k);
    buttons.forEach((b, j) => { b.setAttribute("aria-checked", String(j === k)); b.tabIndex = j === digit ? 0 : -1; });
  }
  return {element: el("div", {class: "segments", role: "radiogroup", "aria-label": "digit"}, ...buttons), set};
}

/** All ten digits were computed from noise together; the one that was asked for is shown. */
stages.denoise = (data, state) => {
  const canvas = el("canvas", {role: "img"}), caption = el("p", {class: "note"});
  let digit = 0, began = 0, asked = false, shown = "";
  const digits = digitButtons(k => choose(k, true));
  function choose(k, byHand) {
    digit = k; began = start.clock; asked ||= byHand;
    digits.set(k);
  }
  choose(0, false);
  return {
    element: el("div", {class: "play square"}, canvas, caption, digits.element),
    ready: () => count(data.pictures) > 0,
    draw(seconds) {
      const n = count(data.pictures), frame = Math.min(n - 1, Math.floor((seconds - began) * 14)), key = digit + "/" + frame;
      if (state.complete && seconds - began > n / 14 + (asked ? 4 : 1.3)) choose(asked ? digit : (digit + 1) % 10, false);
      if (key === shown) return;
      shown = key;
      const [, , height, width] = data.pictures.shape, size = height * width;
      paint(canvas, row(data.pictures, frame).subarray(digit * size, (digit + 1) * size), height, width);
      canvas.setAttribute("aria-label", `noise that becomes a ${digit}`);
      setText(caption, frame === 0 ? "only noise" : frame === n - 1 && state.complete ? `a ${digit}` : `after ${counted(frame, "step")}`);
    },
    redraw() { shown = ""; },
  };
};

/** Ask the server to fill a tile's data anew: fresh() makes them empty, begun(data) is called when the first part has come. */
async function askTile(tile, settings, fresh, begun) {
  tile.asking?.abort();
  const asking = tile.asking = new AbortController(), data = fresh();
  let begins = true;
  setText(tile.status, "computing …");
  tile.status.classList.remove("wrong");
  try {
    for await (const messages of linesOf((await ask("tile", {tile: tile.name, ...settings}, asking.signal)).body)) for (const message of messages) {
      if (tile.asking !== asking) return;
      if (message.error) throw new Error(message.error);
      for (const part of message.grow) grow(data, part);
      if (begins) begun(data);
      begins = false;
    }
    data.complete = true;
    setText(tile.status, "");
  } catch (e) {
    if (tile.asking !== asking) return;
    setText(tile.status, e.message);
    tile.status.classList.add("wrong");
  }
}

const nothing = dtype => ({dtype, shape: [0], base64: ""});

/** A picture of what a sentence says, and the network's guess once for each word, lit where it took from that word. */
stages.words = (data, state) => {
  const canvas = el("canvas", {role: "img"}), caption = el("p", {class: "note"}), lit = el("div", {class: "flow lit"}), figures = [];
  const tile = {name: "words", asking: null, status: el("p", {class: "note", role: "status"})};
  let now = data, began = 0, asked = false, shown = -1, seed = 0;
  const line = (id, label, value) => {
    const input = el("input", {id, type: "text", value, maxlength: 2000, spellcheck: "false", autocomplete: "off"});
    const name = el("span", {}, label);
    return {input, name, element: el("label", {class: "asked"}, name, input)};
  };
  const first = line("words-prompt", "draw", data.prompt), second = line("words-later", "later", data.later);
  const when = el("input", {id: "words-when", type: "range", min: 0.05, max: 0.95, step: 0.05, value: 0.15, "aria-label": "how far the picture is drawn when the words change", oninput: told});
  function told() {
    const part = Math.round(100 * when.value);
    setText(second.name, part === 50 ? "half-way" : `after ${part}%`);
    when.setAttribute("aria-valuetext", second.name.textContent);
  }
  told();
  function draw() {
    askTile(tile, {prompt: first.input.value, later: second.input.value, later_t: Number((1 - when.value).toFixed(2)), seed},
      () => ({words: [], t: [], pictures: nothing("unit8"), guesses: nothing("unit8"), light: nothing("unit8"), complete: false}),
      fresh => { now = fresh; began = start.clock; shown = -1; asked = true; pauseTiles(false); });
  }
  const form = el("form", {onsubmit: e => { e.preventDefault(); draw(); }}, first.element, second.element, el("div", {class: "row"}, when,
    el("button", {type: "submit", class: "primary"}, "draw"), el("button", {type: "button", title: "from another noise", onclick: () => { seed = Math.floor(Math.random() * 10000); draw(); }}, "↻ another")), tile.status);
  return {
    element: el("div", {class: "play told"}, el("div", {class: "square"}, canvas, caption), el("div", {class: "said"}, page.start.live ? form : null, lit)),
    ready: () => count(data.pictures) > 0,
    draw(seconds) {
      const n = count(now.pictures), complete = now === data ? state.complete : now.complete, frame = Math.min(n - 1, Math.max(0, Math.floor((seconds - began) * 9)));
      if (complete && seconds - began > n / 9 + (asked ? 6 : 2.5)) began = seconds;
      if (frame === shown) return;
      shown = frame;
      const [, height, width] = now.pictures.shape, words = now.words[frame], before = now.words[0], changed = words.join(" ") !== before.join(" ");
      paint(canvas, row(now.pictures, frame), height, width, "colour", 1);
      canvas.setAttribute("aria-label", `noise that becomes a picture of ${words.join(" ")}`);
      setText(caption, frame === 0 ? "only noise" : frame === n - 1 && complete ? "the picture" : `after ${counted(frame, "step")}`);
      light(words, before, frame, changed);
    },
    redraw() { shown = -1; },
  };
  function light(words, before, frame, changed) {
    const [, height, width] = now.guesses.shape, [, most, rows, columns] = now.light.shape, guess = row(now.guesses, frame), all = row(now.light, frame);
    while (figures.length < most) {
      const canvas = el("canvas", {role: "img"}), word = el("figcaption");
      figures.push({canvas, word, figure: el("figure", {}, canvas, word)});
    }
    if (lit.children.length !== words.length) lit.replaceChildren(...figures.slice(0, words.length).map(f => f.figure));
    words.forEach((word, k) => {
      const out = new Float32Array(guess.length), map = all.subarray(k * rows * columns, (k + 1) * rows * columns);
      for (let i = 0; i < height * width; i++) {
        const y = Math.floor(Math.floor(i / width) * rows / height), x = Math.floor(i % width * columns / width), bright = 0.12 + 0.88 * map[y * columns + x];
        for (let c = 0; c < 3; c++) out[3 * i + c] = bright * (0.25 + 0.75 * guess[3 * i + c]);
      }
      paint(figures[k].canvas, out, height, width, "colour", 1);
      figures[k].canvas.setAttribute("aria-label", `where the picture takes from ${word}`);
      setText(figures[k].word, word);
      figures[k].word.classList.toggle("changed", changed && word !== before[k]);
    });
  }
};

/** A spectrogram that grows from noise, and what it sounds like: all ten digits were computed together, and anything else can be asked for. */
stages.speech = (data, state) => {
  const canvas = el("canvas", {role: "img"}), caption = el("p", {class: "note"});
  const tile = {name: "speech", asking: null, status: el("p", {class: "note", role: "status"})};
  let now = data, at = 0, said = data.digits[0], began = 0, asked = false, due = false, shown = "";
  const digits = digitButtons(k => choose(k, true));
  function choose(k, byHand) {
    now = data; at = k; said = data.digits[k]; began = start.clock; asked ||= byHand; due = byHand;
    digits.set(k);
    tile.asking?.abort();
    tile.asking = null;
    setText(tile.status, "");
    if (byHand) pauseTiles(false);
  }
  const input = el("input", {id: "speech-prompt", type: "text", maxlength: 200, spellcheck: "false", autocomplete: "off", placeholder: page.start.live ? "7, or: a woman says b" : "7, or seven"});
  function say() {
    const text = input.value.trim().toLowerCase(), digit = /^[0-9]$/.test(text) ? Number(text) : data.digits.indexOf(text);
    if (digit >= 0) return choose(digit, true);
    if (!page.start.live) return setText(tile.status, "This page knows the ten digits.");
    askTile(tile, {prompt: input.value, seed: Math.floor(Math.random() * 10000)}, () => ({pictures: nothing("unit8"), waves: nothing("float16"), complete: false}),
      fresh => { now = fresh; at = 0; said = text; began = start.clock; asked = due = true; shown = ""; digits.set(-1); pauseTiles(false); });
  }
  const listen = el("button", {type: "button", onclick: () => playWave(row(now.waves, at), data.rate)}, "▶ listen");
  choose(0, false);
  return {
    element: el("div", {class: "play square"}, canvas, caption, digits.element,
      el("form", {onsubmit: e => { e.preventDefault(); say(); }}, el("label", {class: "asked"}, el("span", {}, "say"), input), listen), tile.status),
    ready: () => count(data.pictures) > 0,
    draw(seconds) {
      const n = count(now.pictures), frame = Math.min(n - 1, Math.max(0, Math.floor((seconds - began) * 14))), sounds = count(now.waves) > at, key = `${said}/${frame}/${sounds}`;
      if (due && sounds && frame === n - 1) { due = false; playWave(row(now.waves, at), data.rate); }
      if (now === data && state.complete && seconds - began > n / 14 + (asked ? 6 : 1.6)) choose(asked ? at : (at + 1) % 10, false);
      if (key === shown) return;
      shown = key;
      const [, , height, width] = now.pictures.shape, size = height * width;
      paint(canvas, row(now.pictures, frame).subarray(at * size, (at + 1) * size), height, width);
      canvas.setAttribute("aria-label", `a spectrogram that grows from noise: ${said}`);
      setText(caption, frame === 0 ? "only noise" : frame === n - 1 && sounds ? `“${said}”` : `after ${counted(frame, "step")}`);
      listen.disabled = !sounds;
    },
    redraw() { shown = ""; },
  };
};

/** How many rows a packed array has. */
const count = packed => packed.values || packed.base64 ? packed.shape[0] : 0;

function paintRow(canvas, packed, i) {
  const [, height, width] = packed.shape;
  paint(canvas, row(packed, i), height, width);
}

function buildTile(data) {
  const state = {...data, complete: Boolean(data.complete), began: null}, view = stages[data.name](state.data, state);
  const waiting = el("p", {class: "waiting note"}, page.start.live ? "waiting for its turn …" : "");
  const where = page.start.live ? `play#model=${encodeURIComponent(data.model)}` : `#story=${data.name}`;
  const box = el("section", {class: `card tile ${data.name}`, "aria-label": data.title, "data-tile": data.name},
    el("header", {}, el("h2", {}, data.title), el("p", {class: "note"}, data.sentence)), waiting, view.element,
    el("footer", {}, el("a", {href: where, "aria-label": `How does it do that? ${data.title}`}, "How does it do that?"), el("span", {class: "note"}, data.model)));
  view.element.classList.add("hidden");
  Object.assign(state, {view, box, waiting, visible: true});
  return state;
}

function frame(now) {
  start.clock += start.paused || document.hidden ? 0 : Math.min(0.1, (now - start.before) / 1000);
  start.before = now;
  start.frames++;
  if (!start.paused) for (const tile of start.tiles) {
    if (tile.began === null) {
      if (!tile.view.ready()) continue;
      tile.began = start.clock;
      tile.waiting.classList.add("hidden");
      tile.view.element.classList.remove("hidden");
    }
    if (tile.visible) tile.view.draw(start.clock);
  }
  requestAnimationFrame(frame);
}

/** Fill the tiles from the server, as their models compute. */
async function receiveTiles() {
  const byName = new Map(start.tiles.map(tile => [tile.name, tile])), began = performance.now();
  const next = () => page.start.computed.map(name => byName.get(name)).find(tile => !tile.complete && !tile.failed);
  const timer = setInterval(() => {
    const tile = next(), seconds = (performance.now() - began) / 1000;
    if (tile && tile.began === null) setText(tile.waiting, `computing … ${seconds.toFixed(0)} s` + (seconds > 3 ? " (the first time, kernels are compiled for this machine)" : ""));
  }, 500);
  try {
    for await (const messages of linesOf((await ask("tiles", {})).body)) for (const message of messages) {
      const tile = byName.get(message.tile);
      for (const part of message.grow ?? []) grow(tile.data, part);
      if (message.seconds !== undefined) tile.complete = true;
      if (message.error) { tile.failed = true; setText(tile.waiting, message.error); }
    }
  } catch (e) {
    for (const tile of start.tiles) if (tile.began === null) setText(tile.waiting, e.message);
  }
  clearInterval(timer);
}

function pauseTiles(on = !start.paused) {
  start.paused = on;
  const button = document.getElementById("pause");
  setText(button, on ? "▶ play" : "❚❚ pause");
  if (on) audio.stop?.();
}

function buildStart() {
  start.tiles = page.start.tiles.map(buildTile);
  const links = (page.start.links ?? []).map(([where, text]) => el("a", {href: where}, text));
  document.body.append(
    el("header", {class: "top hello"}, el("h1", {}, "zoo ", el("span", {}, "machines that make things up")),
      el("p", {class: "facts"}, page.start.live ? "Small models compute all of this on your computer, now." : "Computed by small models on an ordinary computer."),
      el("nav", {"aria-label": "more"}, ...links), el("button", {id: "pause", type: "button", title: "pause (space)", onclick: () => pauseTiles()}, "❚❚ pause"), themeButton()),
    el("main", {class: "tiles"}, ...start.tiles.map(tile => tile.box)));
  if (!start.tiles.length) document.querySelector("main").append(el("p", {}, "This copy of zoo has no trained weights. Train a model: zoo train vae"));
  const seen = new IntersectionObserver(entries => { for (const e of entries) start.tiles.find(t => t.box === e.target).visible = e.isIntersecting; });
  const sized = new ResizeObserver(entries => { for (const e of entries) e.target.box = [e.contentRect.width, e.contentRect.height]; });
  for (const tile of start.tiles) seen.observe(tile.box);
  for (const canvas of document.querySelectorAll(".compose canvas")) sized.observe(canvas);
  listeners.push(() => { for (const tile of start.tiles) tile.view.redraw?.(); });
  document.addEventListener("keydown", e => {
    if (e.key === "t" && !e.ctrlKey && !e.metaKey && !e.altKey && !e.target.closest("input")) KEYS.t();
    if (e.key === " " && !e.target.closest("button, a, input")) { e.preventDefault(); pauseTiles(); }
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) setTimeout(() => pauseTiles(true), 4000);  // after the first pictures
  requestAnimationFrame(now => { start.before = now; frame(now); });
  if (page.start.live) receiveTiles();
}

/** In a file the guided pages are in the same file: #story=NAME shows one of them. */
function buildStory(name) {
  const {title, ...run} = page.start.stories[name];
  page.name = title;
  page.about = page.start.tiles.find(tile => tile.name === name).sentence;
  page.facts = "";
  page.runs = [{title: "", ...run}];
  buildPlayer();
  document.querySelector(".top").prepend(el("a", {href: "#"}, "← all tiles"));
  playStory();
}
addEventListener("hashchange", () => { if (page.start && !page.start.live) location.reload(); });
