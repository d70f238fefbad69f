// What makes a page a story: set formulas, words explained where they stand, a diagram whose parts can be looked at, the picture always in view.

// --- formulas: the records' plain text as MathML

const GREEK = {alpha: "α", beta: "β", gamma: "γ", epsilon: "ε", eta: "η", mu: "μ", sigma: "σ", theta: "θ", lambda: "λ"};

/** "x = 1 / (1 + exp(-l))" as MathML.  Precedence as usual; words side by side are multiplied; a_b is a subscript. */
function mathOf(text) {
  const tokens = text.match(/[A-Za-z]+(?:_[A-Za-z0-9]+)?|\d+(?:\.\d+)?|\S/g) ?? [];
  let k = 0;
  const escape = t => t.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const operator = t => `<mo>${escape({"-": "−", "*": "·", "~": "∼"}[t] ?? t)}</mo>`, word = t => GREEK[t] ?? t;
  const bare = a => a.inside ?? a.markup;  // without the brackets that a fraction or a power makes needless
  function atom() {
    const t = tokens[k++];
    if (t === undefined) return {markup: ""};
    if (t === "(") {
      const inside = list(")");
      k++;
      return {markup: `<mrow><mo>(</mo>${inside}<mo>)</mo></mrow>`, inside: `<mrow>${inside}</mrow>`};
    }
    if (t === "-" || t === "+") return {markup: `<mrow>${operator(t)}${power().markup}</mrow>`};
    if (/^\d/.test(t)) return {markup: `<mn>${t}</mn>`};
    if (!/^[A-Za-z]/.test(t)) return {markup: operator(t)};
    const [name, under] = t.split("_"), symbol = under ? `<msub><mi>${word(name)}</mi>${/^\d/.test(under) ? `<mn>${under}</mn>` : `<mi>${word(under)}</mi>`}</msub>` : `<mi>${word(name)}</mi>`;
    if (tokens[k] !== "(") return {markup: symbol};
    const argument = atom();
    return {markup: name === "sqrt" ? `<msqrt>${bare(argument)}</msqrt>` : `<mrow>${symbol}${argument.markup}</mrow>`};
  }
  function power() {
    const base = atom();
    if (tokens[k] !== "^") return base;
    k++;
    return {markup: `<msup>${base.markup}${bare(atom())}</msup>`};
  }
  function product() {
    let left = power();
    while (k < tokens.length && !/^[-+=~;,)|<>]$/.test(tokens[k])) {
      if (tokens[k] === "/") { k++; left = {markup: `<mfrac>${bare(left)}${bare(power())}</mfrac>`}; }
      else if (tokens[k] === "*") { k++; left = {markup: `<mrow>${left.markup}<mo>·</mo>${power().markup}</mrow>`}; }
      else left = {markup: `<mrow>${left.markup}<mspace width="0.25em"></mspace>${power().markup}</mrow>`};
    }
    return left.markup;
  }
  function list(end) {
    let markup = "";
    while (k < tokens.length && tokens[k] !== end) {
      markup += product();
      if (k < tokens.length && tokens[k] !== end) markup += operator(tokens[k++]);
    }
    return markup;
  }
  return list(null);
}

function formula(text) {
  const node = el("span", {class: "formula"});
  node.innerHTML = `<math displaystyle="true"><mrow>${mathOf(text)}</mrow></math>`;  // of this file's markup: names and numbers only, the rest escaped
  return node;
}

// --- words

const GLOSSARY = {
  "x_t": "the picture at time t: at t = 1 all noise, at t = 0 the picture",
  "x_0": "the picture without noise, at time 0",
  "x_s": "the picture at the next time s, a little earlier than t",
  "logit": "a number before it is turned into a probability: the larger, the likelier",
  "logits": "numbers before they are turned into probabilities: the larger, the likelier",
  "nats": "a unit of information, by the natural logarithm: 1 nat is 1.44 bits",
  "surprise": "-log of the probability of what came: 0 for what was certain",
  "entropy": "the surprise to be expected: 0 if one token is certain",
  "residual stream": "the vector that each block of a transformer adds to",
  "logit lens": "the prediction, were the remaining layers left out",
  "root mean square": "the square root of the mean of the squares: a typical size",
  "standard deviation": "how far numbers lie from their mean, typically",
  "temperature": "divides the logits: below 1 the likely becomes likelier",
  "latent": "hidden: numbers that nobody gave, from which the model makes its picture",
  "principal components": "the directions in which points differ most",
  "Fréchet distance": "between generated and real pictures, in a classifier's eyes: 0 if their statistics are the same",
  "discriminator": "the network that learned to tell real pictures from generated ones",
  "evaluations": "how many times the network runs",
  "token": "the unit of text that the model reads and writes: here mostly a character",
};
const TERMS = new RegExp(`(?<![\\w])(${Object.keys(GLOSSARY).sort((a, b) => b.length - a.length).join("|")})(?![\\w])`, "g");

/** A text with the words of the glossary explained, each at its first place: by the mouse, the keyboard and to screen readers. */
function explained(text) {
  const met = new Set();
  return text.split(TERMS).map((part, i) => {
    if (i % 2 === 0 || met.has(part)) return part;
    met.add(part);
    return el("button", {type: "button", class: "term", "data-tip": GLOSSARY[part], "aria-description": GLOSSARY[part], "aria-label": part.startsWith("x_") ? part.replace("_", "") : null}, part.startsWith("x_") ? formula(part) : part);
  });
}

// --- a diagram of what runs in a step

panels.diagram = (data, run) => {
  let chosen = data.nodes.length - 1, at = 0;
  const canvas = el("canvas"), value = el("p", {}), where = el("p", {class: "note"}), title = el("b"), set = el("div");
  const buttons = data.nodes.map((node, k) => el("button", {type: "button", class: "part", onclick: () => { chosen = k; show(at); }},
    el("span", {class: "symbol"}, /^[a-z]+(_.)?$/i.test(node.symbol) && node.symbol.length < 8 ? formula(node.symbol) : node.symbol), el("span", {class: "note"}, node.title)));
  function show(i) {
    at = i;
    const node = data.nodes[chosen], field = run.steps[i]?.fields.find(f => f.name === node.field);
    const lens = node.layer === undefined ? null : run.panels.find(p => p.kind === "lens") ?? run.views.find(v => v.name === "lens")?.data;
    buttons.forEach((b, k) => b.setAttribute("aria-pressed", String(k === chosen)));
    setText(title, node.title);
    set.replaceChildren(...(node.formula ? node.formula.split(" ; ").map(formula) : []));
    setText(value, field ? [field.text, field.statistics ? `mean ${number(field.statistics[0])}, standard deviation ${number(field.statistics[1])}` : ""].filter(Boolean).join(" · ")
      : lens?.texts[i] ? `if the answer were read here: ${lens.texts[i][node.layer].slice(0, 3).map(visible).join("  ")}` : "");
    setText(where, node.code ? `in the code: ${node.code}` : "");
    canvas.classList.toggle("hidden", !field?.picture);
    if (field?.picture) draw(canvas, field.picture, field.picture.scale, `${node.title}, as a picture`);
  }
  const arrows = buttons.flatMap((b, k) => k ? [el("span", {class: "arrow", "aria-hidden": "true"}, "→"), b] : [b]);
  return {
    element: el("div", {}, el("div", {class: "parts", role: "group", "aria-label": data.title}, ...arrows, data.loops ? el("span", {class: "arrow", "aria-hidden": "true", title: "and again"}, "↩") : null),
      el("div", {class: "part-value"}, canvas, el("div", {}, title, set, value, where))),
    show,
  };
};

// --- the picture in view on a narrow screen

const mini = {canvas: null, text: null, element: null};

function buildMini() {
  mini.canvas = el("canvas", {"aria-hidden": "true"});
  mini.text = el("p", {"aria-hidden": "true"});
  mini.element = el("div", {class: "mini hidden"}, mini.canvas, mini.text);
  return mini.element;
}

/** Copy what the stage shows at step i into the strip at the top. */
function showMini(run, i) {
  if (!mini.element || getComputedStyle(mini.element).position !== "sticky" || run !== page.runs.at(-1)) return;
  const data = run.views.find(v => ["picture", "text"].includes(v.name))?.data;
  mini.element.classList.toggle("hidden", !data?.pictures && !data?.tokens);
  if (data?.pictures?.[i]) draw(mini.canvas, data.pictures[i], data.pictures[i].scale, "", data.pictures[i].range ?? null);
  mini.canvas.classList.toggle("hidden", !data?.pictures);
  setText(mini.text, data?.tokens ? data.tokens.slice(0, i + 1 + data.given).join("").slice(-150) : run.steps[i]?.label ?? "");
}

/** In a guided page the result stands for a moment; then the steps that led to it play. */
function playStory() {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  setTimeout(() => {
    if (player.playing || player.step !== player.length - 1 || (page.live && live.asking)) return;
    player.speed = [1, 3, 6, 15, 30, 60].find(v => v >= player.length / 7) ?? 60;
    player.play();
  }, 1600);
}
