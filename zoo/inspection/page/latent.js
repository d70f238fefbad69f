// A decoder that runs in the page: sliders for z, and a map of the codes.

const ACTIVATIONS = {
  tanh: Math.tanh, relu: x => Math.max(0, x), leaky_relu: x => x > 0 ? x : 0.01 * x, silu: x => x / (1 + Math.exp(-x)),
  gelu: x => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

/** Abramowitz & Stegun 7.1.26: an absolute error of at most 1.5e-7. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-x * x);
  return Math.sign(x) * (1 - tail);
}

const LAYERS = {
  /** The code with the digit appended, one-hot. */
  label: (layer, x) => Float32Array.from([...x, ...layer.values]),

  /** y = x W + b */
  dense(layer, x) {
    const w = values(layer.weight), y = Float32Array.from(values(layer.bias)), n = y.length;
    for (let i = 0; i < x.length; i++) {
      const xi = x[i];
      if (xi !== 0) for (let j = 0, at = i * n; j < n; j++) y[j] += xi * w[at + j];
    }
    return y;
  },

  /** Each input pixel adds a multiple of the kernel to the output; neighbours are `stride` apart. */
  transposed(layer, x) {
    const [k, , inputs, outputs] = layer.weight.shape, w = values(layer.weight), b = values(layer.bias), {height, width, stride, padding} = layer;
    const H = (height - 1) * stride - 2 * padding + k, W = (width - 1) * stride - 2 * padding + k, y = new Float32Array(H * W * outputs);
    for (let at = 0; at < y.length; at++) y[at] = b[at % outputs];
    for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) for (let dr = 0; dr < k; dr++) for (let dc = 0; dc < k; dc++) {
      const R = r * stride - padding + dr, C = c * stride - padding + dc;
      if (R < 0 || R >= H || C < 0 || C >= W) continue;
      const to = (R * W + C) * outputs, kernel = (dr * k + dc) * inputs * outputs;
      for (let i = 0; i < inputs; i++) {
        const xi = x[(r * width + c) * inputs + i];
        if (xi !== 0) for (let o = 0; o < outputs; o++) y[to + o] += xi * w[kernel + i * outputs + o];
      }
    }
    return y;
  },
};

function decodeLatent(layers, z) {
  let x = z;
  for (const layer of layers) {
    x = LAYERS[layer.kind](layer, x);
    const f = ACTIVATIONS[layer.activation];
    if (f) x = x.map(f);
  }
  return x.map(v => 1 / (1 + Math.exp(-v)));
}

/** Sliders for the numbers of z, buttons, and the map if there is one; changed(z) is called after every change.
 *  data: size, reach (sliders go from -reach to reach), initial z, map; for codes that aren't N(0, I) their mean and covariance's root. */
function latentControls(data, changed) {
  const z = new Float32Array(data.size), inputs = [], mean = data.mean ? values(data.mean) : new Float32Array(data.size);
  if (data.z) z.set(values(data.z));
  const start = Float32Array.from(z);
  function show() {
    inputs.forEach(({input, output}, k) => { input.value = z[k]; setText(output, z[k].toFixed(2)); });
    map?.mark(z);
  }
  function set(next) { z.set(next); show(); changed(z); }
  const sliders = el("div", {class: "sliders", tabindex: "-1"}, ...Array.from(z, (v, k) => {
    const input = el("input", {type: "range", min: -data.reach, max: data.reach, step: 0.01, "aria-label": `z[${k}]`,
      oninput: e => { z[k] = Number(e.target.value); setText(output, z[k].toFixed(2)); map?.mark(z); changed(z); }});
    const output = el("output", {});
    inputs.push({input, output});
    return el("label", {}, el("span", {class: "note"}, `z[${k}]`), input, output);
  }));
  function sample() {
    const normal = z.map(gaussian);
    return data.root ? mean.map((m, i) => normal.reduce((sum, v, j) => sum + v * row(data.root, i)[j], m)) : normal;
  }
  const buttons = el("div", {class: "controls"},
    data.z ? el("button", {type: "button", onclick: () => set(start)}, "as generated") : null,
    el("button", {type: "button", onclick: () => set(mean)}, data.mean ? "the mean" : "all 0"), el("button", {type: "button", onclick: () => set(sample())}, "new random z"));
  const map = data.map ? latentMap(data.map, z, set) : null;
  show();
  return {z, set, show, buttons, sliders, map: map?.element ?? null};
}

panels.latent = (data, run) => {
  const canvas = el("canvas", {role: "img", "aria-label": "the picture decoded from this z"}), [height, width, channels] = data.image;
  function redraw() {
    const pixels = decodeLatent(data.layers, controls.z);
    paint(canvas, pixels, height, width, channels === 3 ? "colour" : "ink");
    canvas.dataset.mean = (pixels.reduce((a, b) => a + b, 0) / pixels.length).toFixed(5);
  }
  const controls = latentControls(data, redraw);
  return {element: el("div", {class: "decoded"}, el("div", {class: "shown"}, canvas), el("div", {}, controls.buttons, controls.sliders), controls.map), grow: redraw, show() {}};
};

/** A normal random number (Box & Muller 1958). */
const gaussian = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());

/** Codes of test digits in the plane of their first two principal components; a click or drag moves z in that plane. */
function latentMap(data, z, set) {
  const points = values(data.points), centre = values(data.centre), [across, up] = [row(data.axes, 0), row(data.axes, 1)];
  const W = 460, H = 300, reach = 1.05 * Math.max(1, ...points.map(Math.abs));
  const x = a => W / 2 + a / reach * W / 2, y = b => H / 2 - b / reach * H / 2;
  const dots = data.labels.map((label, i) => el("svg:circle", {cx: x(points[2 * i]).toFixed(1), cy: y(points[2 * i + 1]).toFixed(1), r: 3, fill: DIGIT_HUES[label], "fill-opacity": 0.75}));
  const ring = el("svg:circle", {r: 7, fill: "none", stroke: "var(--ink)", "stroke-width": 2.5});
  const svg = el("svg:svg", {viewBox: `0 0 ${W} ${H}`, class: "map", role: "img", "aria-label": `map of the codes of ${data.labels.length} test digits; the ring is the current z`},
    el("svg:rect", {width: W, height: H, fill: "var(--soft)", rx: 8}), ...dots, ring);
  const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
  const place = code => { const d = code.map((v, i) => v - centre[i]); return [dot(d, across), dot(d, up)]; };
  function move(e) {
    if (!e.buttons && e.type !== "click") return;
    const box = svg.getBoundingClientRect();
    const a = ((e.clientX - box.left) / box.width * 2 - 1) * reach, b = (1 - (e.clientY - box.top) / box.height * 2) * reach, [a0, b0] = place(z);
    set(z.map((v, i) => v + (a - a0) * across[i] + (b - b0) * up[i]));
  }
  svg.addEventListener("pointermove", move);
  svg.addEventListener("click", move);
  const legend = el("div", {class: "legend"}, ...[...new Set(data.labels)].sort().map(d => el("span", {}, el("i", {style: `background:${DIGIT_HUES[d]}`}), String(d))));
  return {
    element: el("div", {class: "where-digits"}, el("p", {class: "note"}, "Where test digits lie: the first two principal components of their codes. Click or drag to move z there."), svg, legend),
    mark(code) { const [a, b] = place(code); ring.setAttribute("cx", x(a)); ring.setAttribute("cy", y(b)); },
  };
}
