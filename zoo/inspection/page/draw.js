// Arrays, numbers, elements, colours and pictures: what every panel builds on.

const page = JSON.parse(document.getElementById("page").textContent);

// --- arrays

const KINDS = {float32: Float32Array, uint8: Uint8Array, unit8: Uint8Array, signed8: Uint8Array, int32: Int32Array, float16: Uint16Array};

/** The values of a packed array {dtype, shape, base64}: decoded at first use, then stored. */
function values(packed) {
  if (packed.values) return packed.values;
  const bytes = Uint8Array.from(atob(packed.base64), c => c.charCodeAt(0));
  const raw = new KINDS[packed.dtype](bytes.buffer);
  packed.values = packed.dtype === "float16" ? Float32Array.from(raw, half) : packed.dtype === "unit8" ? Float32Array.from(raw, v => v / 255)
    : packed.dtype === "signed8" ? Float32Array.from(raw, v => v ? (v - 128) / 127 * packed.range : NaN) : raw;
  packed.base64 = "";
  return packed.values;
}

/** A half-precision number from its 16 bits: sign, 5 bits of exponent, 10 of fraction. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** Add a step's part to a panel's data, as `grow` in runs.py does: to a list an item, to a packed array a row. */
function grow(data, part) {
  if (Array.isArray(data)) data.push(part);
  else if ("dtype" in data) append(data, part);
  else for (const [name, member] of Object.entries(part)) grow(data[name], member);
}

/** Append a row to a packed array, or if it's ragged a stretch of any length; its storage doubles when full. */
function append(packed, part) {
  const before = values(packed), added = values(part), size = before.length + added.length;
  if (!packed.store || packed.store.length < size) {
    packed.store = new added.constructor(2 * size);
    packed.store.set(before);
  }
  packed.store.set(added, before.length);
  packed.values = packed.store.subarray(0, size);
  packed.shape = packed.ragged ? [size] : [(packed.shape[0] ?? 0) + 1, ...part.shape];
}

/** Row i of a packed array: a view, no copy. */
function row(packed, i) {
  const size = packed.shape.slice(1).reduce((a, b) => a * b, 1);
  return values(packed).subarray(i * size, (i + 1) * size);
}

/** A number with four significant digits, as the terminal prints it. */
function number(x) {
  if (!Number.isFinite(x)) return String(x);
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e5 || size < 1e-4) return x.toExponential(2).replace("e+", "e");
  return String(Number(x.toPrecision(4)));
}

/** "1 step", "2,000 steps". */
const counted = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

const percent = p => p >= 0.9995 ? "100%" : p >= 0.0995 ? (100 * p).toFixed(0) + "%" : p >= 0.00095 ? (100 * p).toFixed(1) + "%" : p > 0 ? "<0.1%" : "0%";

/** A token with visible signs for spaces, tabs and line ends. */
const visible = text => text === "" ? "∅" : text.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "␣");

// --- elements

function el(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") node.style.cssText = value ?? "";  // the page's policy forbids style attributes
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(c => c !== null && c !== undefined));
  return node;
}

// --- colours: read from the style sheet, their only definition

let palette = null;
function colour(name) {
  palette ??= {};
  if (!palette[name]) {
    const hex = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
    palette[name] = [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16));
  }
  return palette[name];
}

const DIGIT_HUES = ["#e15759", "#f28e2b", "#c9a800", "#59a14f", "#2ba58f", "#4e9bd1", "#5b6fd6", "#9a6fc9", "#d8669f", "#9c755f"];

const SCALES = {
  ink: () => [colour("blank"), colour("ink")],
  heat: () => [colour("blank"), colour("accent")],
};

/** Paint numbers on a canvas, one pixel each.
 *  scale: "ink" (0 is paper, 1 is ink), "heat" (0 to the maximum), "signed" (0 is paper, one colour per sign), "colour" (3 channels).
 *  range: the magnitude that gets the full colour; unless given, the maximum. */
function paint(canvas, data, height, width, scale = "ink", range = null) {
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d"), image = context.createImageData(width, height), out = image.data, n = width * height;
  if (range === null && scale !== "ink") { range = 1e-12; for (let i = 0; i < data.length; i++) { const a = Math.abs(data[i]); if (a > range) range = a; } }
  if (scale === "colour") {
    for (let i = 0; i < n; i++) for (let c = 0; c < 4; c++) out[4 * i + c] = c === 3 ? 255 : 255 * data[3 * i + c];
  } else {
    const [zero, one] = scale === "signed" ? [colour("blank"), colour("positive")] : SCALES[scale]();
    const minus = scale === "signed" ? colour("negative") : zero;
    const per = scale === "ink" ? 1 : 1 / range;
    for (let i = 0; i < n; i++) {
      const v = data[i] * per, t = Math.min(1, Math.abs(v)), to = v >= 0 ? one : minus;
      for (let c = 0; c < 3; c++) out[4 * i + c] = zero[c] + t * (to[c] - zero[c]);
      out[4 * i + 3] = i < data.length && !Number.isNaN(v) ? 255 : 0;
    }
  }
  context.putImageData(image, 0, 0);
}

/** The [height, width] in which an array of this shape is drawn. */
function layout(shape) {
  let s = shape.filter((d, i) => d !== 1 || i >= shape.length - 2);
  if (shape.length >= 3 && shape[shape.length - 1] === 1) s = shape.slice(0, -1);  // one channel
  if (s.length >= 2 && s[s.length - 1] === 3 && s.length >= 3) return [s[s.length - 3], s[s.length - 2]];
  if (s.length >= 2 && s[s.length - 2] > 1 && s[s.length - 1] > 1) return [s.slice(0, -1).reduce((a, b) => a * b, 1), s[s.length - 1]];
  const n = shape.reduce((a, b) => a * b, 1);
  let height = Math.floor(Math.sqrt(n / 1.6)) || 1;
  while (height > 1 && n % height && height > Math.sqrt(n / 4)) height--;
  if (n <= 12) height = 1;
  return [height, Math.ceil(n / height)];
}

/** Draw an array, with a label for screen readers. */
function draw(canvas, packed, scale, label, range = null) {
  const [height, width] = layout(packed.shape);
  paint(canvas, values(packed), height, width, scale, range);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", label);
}

/** Set an element's text only if it differs: an unchanged text costs no layout. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A function that scrolls a box so that the k-th of its children is visible.  Positions are measured once, and again when the box is
 *  resized or has new children: asking for a position after a change makes the browser compute the layout of the whole page. */
function follow(box, children) {
  let tops = null, height = 0, at = 0;
  new ResizeObserver(() => { tops = null; }).observe(box);
  box.addEventListener("scroll", () => { at = box.scrollTop; });
  return k => {
    if (!tops || tops.length !== children.length) {
      height = box.clientHeight;
      tops = children.map(c => c.offsetTop - box.offsetTop);
    }
    if (tops[k] + 30 > at + height || tops[k] < at) box.scrollTop = at = Math.max(0, tops[k] - height / 2);
  };
}

// --- choices on the page: shared by all runs, so that two of them show the same layer

const chosen = {};
const listeners = [];  // called with true if the colours have changed
function choose(name, value) {
  chosen[name] = value;
  for (const listener of listeners) listener(false);
}

// --- the theme

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  palette = null;
  for (const listener of listeners) listener(true);
}
const hash = new URLSearchParams(location.hash.slice(1));
const system = matchMedia("(prefers-color-scheme: dark)");
setTheme(hash.has("theme") ? hash.get("theme") === "dark" : system.matches);
system.addEventListener("change", () => setTheme(system.matches));

function themeButton() {
  return el("button", {id: "theme", "aria-label": "switch between light and dark", title: "light or dark (t)",
    onclick: () => setTheme(document.documentElement.dataset.theme !== "dark")}, "◐");
}
