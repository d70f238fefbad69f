// A pad to draw a digit on, and what the models make of it while it is drawn.

const pad = {side: 280, grid: 28, strokes: [], answered: 0, asked: 0, waiting: false, changed: false, digit: null};

/** Ink from 0 to 1 on the grid of 28 by 28, each the mean of a block.  centred: moved and scaled as MNIST's digits were, a box of 20 by 20
 *  around the digit, its centre of mass in the middle (LeCun et al. 1998). */
function inkOf(canvas, centred) {
  const {side, grid} = pad, block = side / grid, means = context => {
    const data = context.getImageData(0, 0, side, side).data, out = new Float32Array(grid * grid);
    for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) out[Math.floor(y / block) * grid + Math.floor(x / block)] += data[4 * (y * side + x) + 3] / 255 / block / block;
    return out;
  };
  const context = canvas.getContext("2d", {willReadFrequently: true});
  if (!centred) return means(context);
  const data = context.getImageData(0, 0, side, side).data;
  let left = side, right = -1, top = side, bottom = -1, mass = 0, mx = 0, my = 0;
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) {
    const ink = data[4 * (y * side + x) + 3];
    if (ink < 32) continue;
    left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
    mass += ink; mx += ink * (x + 0.5); my += ink * (y + 0.5);
  }
  if (right < 0) return new Float32Array(grid * grid);
  const scale = 20 * block / Math.max(right - left + 1, bottom - top + 1);
  const moved = Object.assign(document.createElement("canvas"), {width: side, height: side}), to = moved.getContext("2d");
  to.setTransform(scale, 0, 0, scale, side / 2 - scale * mx / mass, side / 2 - scale * my / mass);
  to.drawImage(canvas, 0, 0);
  return means(to);
}

const inBytes = ink => btoa(String.fromCharCode(...Uint8Array.from(ink, v => Math.round(255 * Math.min(1, v)))));

function buildPad() {
  const canvas = el("canvas", {id: "pad", role: "img", tabindex: "0", width: pad.side, height: pad.side, "aria-label": "a pad to draw a digit on"});
  const seen = el("canvas", {role: "img", "aria-label": "the digit as the models see it"});
  const context = canvas.getContext("2d", {willReadFrequently: true}), line = el("p", {class: "note", role: "status", id: "status"}, "Draw a digit here.");
  const big = el("p", {class: "verdict-digit", id: "digit"}, "?"), rows = Array.from({length: 10}, (_, k) => ({fill: el("div", {class: "fill"}), value: el("span", {class: "value"}), name: String(k)}));
  const bars = el("div", {class: "bars"}, ...rows.flatMap(r => [el("span", {}, r.name), el("div", {class: "track"}, r.fill), r.value]));
  const why = el("canvas", {role: "img", "aria-label": "where ink speaks for or against this digit"});
  const judge = {fill: el("div", {class: "fill"}), value: el("span", {class: "value"}), words: el("p", {}, "…"), canvas: el("canvas", {role: "img", "aria-label": "where ink would change the judge's mind"})};
  const decoded = el("canvas", {role: "img", "aria-label": "the digit as the autoencoder remembers it"}), place = el("div", {});
  const result = el("canvas", {role: "img", id: "finished", class: "hidden", "aria-label": "the digit that diffusion finished"});
  let map = null, drawing = false, last = null, finishing = null;

  function ink() {
    canvas.style.color = "var(--ink)";
    context.strokeStyle = context.fillStyle = `rgb(${colour("ink").join(" ")})`;
    context.lineWidth = 22; context.lineCap = context.lineJoin = "round";
  }
  function point(e) {
    const box = canvas.getBoundingClientRect();
    return [(e.clientX - box.left) / box.width * pad.side, (e.clientY - box.top) / box.height * pad.side];
  }
  canvas.addEventListener("pointerdown", e => { e.preventDefault(); canvas.setPointerCapture(e.pointerId); drawing = true; last = point(e); ink(); stroke(e); });
  canvas.addEventListener("pointermove", e => { if (drawing) stroke(e); });
  for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, () => { drawing = false; });
  function stroke(e) {
    const now = point(e);
    context.beginPath(); context.moveTo(...last); context.lineTo(...now); context.stroke();
    last = now;
    look();
  }

  /** Ask about the newest state of the pad as soon as the last answer is there. */
  async function look() {
    pad.changed = true;
    if (pad.waiting) return;
    pad.waiting = true;
    while (pad.changed) {
      pad.changed = false;
      const centred = inkOf(canvas, true);
      paint(seen, centred, pad.grid, pad.grid);
      if (!centred.some(v => v > 0)) { forget(); continue; }
      const slow = setTimeout(() => setText(line, "computing … (the first time, models are loaded and kernels compiled)"), 700);
      try {
        const answer = await (await ask("look", {pixels: inBytes(centred)})).json();
        if (inkOf(canvas, true).some(v => v > 0)) tell(answer);
      } catch (e) { setText(line, e.message); }
      clearTimeout(slow);
    }
    pad.waiting = false;
  }

  function tell(answer) {
    pad.answer = answer;
    setText(line, "");
    if (answer.classifier) {
      const p = values(answer.classifier.probabilities);
      pad.digit = answer.classifier.digit;
      setText(big, String(pad.digit));
      rows.forEach((r, k) => { r.fill.style.transform = `scaleX(${p[k]})`; setText(r.value, percent(p[k])); });
      draw(why, answer.classifier.saliency, "signed", why.getAttribute("aria-label"));
    }
    if (answer.judge) {
      const p = answer.judge.belief;
      judge.fill.style.transform = `scaleX(${p})`;
      setText(judge.value, percent(p));
      setText(judge.words, p > 0.5 ? `The judge takes it for a ${pad.digit} that a person wrote.` : `The judge takes it for a forged ${pad.digit}.`);
      draw(judge.canvas, answer.judge.saliency, "signed", judge.canvas.getAttribute("aria-label"));
    }
    if (answer.place) {
      paint(decoded, values(answer.place.picture), pad.grid, pad.grid);
      map?.mark(Array.from(values(answer.place.code)));
    }
  }
  function forget() {
    pad.answer = null; pad.digit = null;
    setText(big, "?");
    for (const r of rows) { r.fill.style.transform = "scaleX(0)"; setText(r.value, ""); }
    judge.fill.style.transform = "scaleX(0)"; setText(judge.value, ""); setText(judge.words, "…");
    for (const c of [why, judge.canvas, decoded]) c.getContext("2d").clearRect(0, 0, c.width, c.height);
  }
  function clear() {
    finishing?.abort();
    context.clearRect(0, 0, pad.side, pad.side);
    result.classList.add("hidden");
    setText(line, "Draw a digit here.");
    look();
  }
  async function testDigit() {
    try {
      const pixels = values((await (await ask("digit", {model: "vae", number: Math.floor(Math.random() * 10000)})).json()).pixels), block = pad.side / pad.grid;
      clear();
      ink();
      pixels.forEach((v, i) => { context.globalAlpha = v; context.fillRect(i % pad.grid * block, Math.floor(i / pad.grid) * block, block, block); });
      context.globalAlpha = 1;
      look();
    } catch (e) { setText(line, e.message); }
  }

  /** Let diffusion fill in one half; the other stays as it was drawn. */
  async function finish(inside) {
    finishing?.abort();
    const asking = finishing = new AbortController(), mask = new Uint8Array(pad.grid ** 2).map((_, i) => inside(i % pad.grid, Math.floor(i / pad.grid)) ? 1 : 0);
    result.classList.remove("hidden");
    setText(line, "diffusion fills in that half …");
    try {
      const body = {pixels: inBytes(inkOf(canvas, false)), mask: btoa(String.fromCharCode(...mask)), seed: Math.floor(Math.random() * 1e6)};
      for await (const messages of linesOf((await ask("finish", body, asking.signal)).body)) {
        if (finishing !== asking) return;
        for (const m of messages) { if (m.error) throw new Error(m.error); if (m.picture) { pad.finished = values(m.picture); paint(result, pad.finished, pad.grid, pad.grid); } }
      }
      setText(line, "That half was never drawn: again gives another one.");
    } catch (e) { if (finishing === asking && e.name !== "AbortError") setText(line, e.message); }
  }
  const button = (text, onclick) => el("button", {type: "button", onclick}, text), half = pad.grid / 2;
  const box = (title, note, ...children) => el("section", {class: "card", "aria-label": title}, el("header", {}, el("h2", {}, title), el("p", {class: "note"}, note)), ...children);
  const legend = el("p", {class: "note legend"}, el("span", {}, el("i", {class: "plus"}), "more ink here speaks for it"), el("span", {}, el("i", {class: "minus"}), "against it"));
  document.body.append(el("header", {class: "top"}, page.start ? null : el("a", {href: "."}, "← start"), el("h1", {}, "zoo ", el("span", {}, "draw a digit")), el("p", {class: "facts"}, "Four models look at it while you draw."), themeButton()),
    el("main", {class: "pad"},
      el("section", {class: "card drawing", "aria-label": "pad"}, el("div", {class: "sheet"}, canvas, result), line,
        el("div", {class: "controls"}, button("clear", clear), button("a test digit", testDigit)),
        el("div", {class: "controls"}, el("span", {class: "note"}, "let diffusion draw"), button("the right half", () => finish(x => x >= half)), button("the lower half", () => finish((x, y) => y >= half)))),
      box("What is it?", "a classifier", el("div", {class: "two"}, el("div", {}, big, why), bars), legend),
      box("Did a person write it?", "the judge of a GAN", el("div", {class: "two"}, judge.canvas, el("div", {}, judge.words, el("div", {class: "belief"}, el("div", {class: "track"}, judge.fill), judge.value)))),
      box("Where does it belong?", "a VAE's map of test digits", el("div", {class: "mapped"}, el("div", {class: "pair"}, el("figure", {}, seen, el("figcaption", {class: "note"}, "centred")), el("figure", {}, decoded, el("figcaption", {class: "note"}, "as it is remembered"))), place))));
  document.addEventListener("keydown", e => { if (e.key === "t" && !e.ctrlKey && !e.metaKey && !e.altKey) KEYS.t(); });
  listeners.push(colours => {
    if (!colours) return;
    context.globalCompositeOperation = "source-in"; ink(); context.fillRect(0, 0, pad.side, pad.side); context.globalCompositeOperation = "source-over";
    paint(seen, inkOf(canvas, true), pad.grid, pad.grid);
    if (pad.answer) tell(pad.answer);
    if (pad.finished) paint(result, pad.finished, pad.grid, pad.grid);
  });
  ask("pad", {}).then(r => r.json()).then(data => {
    if (!data.map) return;
    const centre = values(data.map.centre);
    map = latentMap(data.map, new Float32Array(centre.length), () => {});
    map.element.querySelector("p").textContent = "Each dot is a test digit; the ring is yours.";
    place.replaceChildren(map.element);
    if (pad.answer?.place) map.mark(Array.from(values(pad.answer.place.code)));
  }).catch(e => setText(line, e.message));
}
