// What makes a page a story: set formulas, words explained where they stand, a diagram whose parts can be looked at, the picture always in view.

// --- formulas: the records' plain text as MathML

const GREEK = {alpha: "α", beta: "β", gamma: "γ", epsilon: "ε", eta: "η", mu: "μ", sigma: "σ", theta: "θ", lambda: "λ"};

/** "x = 1 / (1 + exp(-l))" as MathML.  Precedence as usual; words side by side are multiplied; a_b is a subscript. */
function mathOf(text) {
  const tokens = text.match(/[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)?|\d+(?:\.\d+)?|\S/g) ?? [];
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
    return el("button", {type: "button", class: "term", "data-tip": GLOSSARY[part], "aria-label": `${part.startsWith("x_") ? part.replace("_", "") : part}: ${GLOSSARY[part]}`}, part.startsWith("x_") ? formula(part) : part);
  });
}

// --- the network: its parts light up in the order in which they ran

/** data.steps: for each step the nodes that are new and [number, value] of what ran, in order.  A click on a part shows its value; until one
 *  was clicked, the last part that ran is shown. */
panels.diagram = (data, run) => {
  const nodes = [], buttons = [], top = el("div", {class: "parts", role: "group", "aria-label": "the parts of the network"}), inner = el("div", {class: "parts inner", role: "group", "aria-label": "inside this part"});
  const canvas = el("canvas"), value = el("p", {}), title = el("b"), says = el("p", {class: "note"}), set = el("div"), where = el("p", {class: "note"});
  let taken = 0, clicked = null, at = -1, timer = null;

  function take() {
    for (; taken < data.steps.length; taken++) for (const node of data.steps[taken].nodes) {
      const k = nodes.push({...node, parts: []}) - 1;
      buttons.push(el("button", {type: "button", class: "part", "data-part": node.name, onclick: () => { clicked = k; describe(); }},
        symbolOf(node.name), el("span", {class: "note"})));
      if (node.inside !== null) nodes[node.inside].parts.push(k);
    }
    const outer = nodes.flatMap((n, k) => n.inside === null ? [k] : []), again = data.steps.length > 1 && data.steps.slice(-2).every(s => s.ran.length && s.ran[0][0] === data.steps.at(-1).ran[0][0]);
    top.replaceChildren(...line(outer), ...(again ? [el("span", {class: "arrow", "aria-hidden": "true", title: "and again"}, "↩")] : []));
  }
  /** x_t as a formula; of a path the part that tells it apart from its neighbours stands out. */
  function symbolOf(name) {
    if (/^[a-z](_[a-z0-9])?$/i.test(name)) return formula(name);
    const [, path, last] = /^((?:.*\.)?)([a-z].*)$/i.exec(name) ?? [null, "", name];
    return el("span", {class: "symbol"}, path ? el("span", {class: "path"}, path) : null, last);
  }
  const line = numbers => numbers.flatMap((k, j) => j ? [el("span", {class: "arrow", "aria-hidden": "true"}, "→"), buttons[k]] : [buttons[k]]);
  const sides = shape => shape.length ? shape.join(" × ") : "a number";

  /** The last step up to this one in which a part ran, and its value then. */
  function lastOf(k) {
    for (let i = at; i >= 0; i--) for (const [n, v] of data.steps[i].ran) if (n === k) return {i, value: v};
    return null;
  }

  function light() {
    clearInterval(timer);
    const order = data.steps[at].ran.map(([k]) => k), seconds = player.playing ? 0.8 / player.speed : 0.9;
    const mark = now => {
      const done = new Set(order.slice(0, now + 1));
      buttons.forEach((b, k) => { b.classList.toggle("ran", done.has(k)); b.classList.toggle("lit", k === order[now] || k === nodes[order[now]]?.inside); });
    };
    if (1000 * seconds / order.length < 12 || player.arriving || matchMedia("(prefers-reduced-motion: reduce)").matches) return mark(order.length - 1);
    let now = 0;
    mark(0);
    timer = setInterval(() => { if (++now < order.length) mark(now); else clearInterval(timer); }, 1000 * seconds / order.length);
  }

  function describe() {
    const ran = data.steps[at].ran, outer = ran.filter(([k]) => nodes[k].inside === null);
    const chosen = clicked ?? outer.at(-1)?.[0];
    if (chosen === undefined) return;
    const node = nodes[chosen], last = lastOf(chosen), field = node.field && last && run.steps[last.i]?.fields.find(f => f.name === node.field);
    const lens = run.panels.find(p => p.kind === "lens") ?? run.views.find(v => v.name === "lens")?.data, read = lens ? lens.rows.indexOf(node.name) : -1;
    const family = node.parts.length || node.inside === null ? chosen : node.inside;
    inner.replaceChildren(...(nodes[family].parts.length ? [el("span", {class: "note"}, `inside ${nodes[family].name}:`), ...line(nodes[family].parts)] : []));
    buttons.forEach((b, k) => {
      b.setAttribute("aria-pressed", String(k === chosen));
      const v = lastOf(k)?.value, f = nodes[k].field && run.steps[lastOf(k)?.i]?.fields.find(f => f.name === nodes[k].field);
      setText(b.lastChild, v?.shape ? sides(v.shape) : f?.statistics ? f.text.replace(/^\w+ (1 × )?/, "") : f && f.text.length < 9 ? f.text : "");
    });
    setText(title, node.name);
    setText(says, node.says + (node.parameters ? `${node.says ? " · " : ""}${counted(node.parameters, "parameter")}` : ""));
    set.replaceChildren(...(node.formula ? [formula(node.formula)] : []));
    const {shape, mean, std, picture, of} = field ? {picture: field.picture, mean: field.statistics?.[0], std: field.statistics?.[1]} : last?.value ?? {};
    const words = [field ? field.text : shape ? `${sides(shape)} numbers` : "", mean === undefined ? "" : `mean ${number(mean)}, standard deviation ${number(std)}`,
      of ? `shown: ${of}` : "", read >= 0 && lens.texts[at] ? `if the answer were read here: ${lens.texts[at][read].slice(0, 3).map(visible).join("  ")}` : ""];
    if (!last) words.push("runs in a later step");
    else if (last.i < at) words.push(`as of ${run.steps[last.i].label}`);
    setText(value, words.filter(Boolean).join(" · "));
    setText(where, node.code ? `in the code: ${node.code}` : "");
    canvas.classList.toggle("hidden", !picture);
    if (picture) draw(canvas, picture, picture.scale, `${node.name}, as a picture`, picture.range ?? null);
  }

  return {
    element: el("div", {}, top, el("div", {class: "part-value"}, canvas, el("div", {}, title, says, set, value, where)), inner),
    grow(restarted) {
      if (restarted) { taken = nodes.length = buttons.length = 0; clicked = null; at = -1; }
      take();
    },
    show(i) {
      const moved = i !== at;
      at = i;
      describe();
      if (moved) light();
      const lit = buttons[data.steps[i].ran.find(([k]) => nodes[k].inside === null)?.[0]];
      if (lit && top.scrollWidth > top.clientWidth) top.scrollLeft = lit.offsetLeft - top.offsetLeft - 20;
    },
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
  const view = run.views.find(v => v.mini || v.name === "text"), text = view?.name === "text" ? view.data : null;
  mini.element.classList.toggle("hidden", !view);
  view?.mini?.(mini.canvas, i);
  mini.canvas.classList.toggle("hidden", !view?.mini);
  setText(mini.text, text ? text.tokens.slice(0, i + 1 + text.given).join("").slice(-150) : run.steps[i]?.label ?? "");
  mini.text.scrollTop = mini.text.scrollHeight;
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
