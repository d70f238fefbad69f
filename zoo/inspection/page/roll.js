// Four-voice music as a piano roll that can be heard.  A token is one voice's event at one sixteenth: a pitch, "-" to hold it, "." for a rest.

const VOICES = ["#4e9bd1", "#59a14f", "#f28e2b", "#d8669f"];  // soprano, alto, tenor, bass
const STRIKE = 12, SECONDS = 60 / 80 / 4;  // a character's code less its MIDI pitch; of a sixteenth at 80 beats a minute

/** The notes of a text of events: {voice, pitch, start, length} in sixteenths, as `notes_of` in zoo/data/music.py; a line end ends the piece. */
function notesOf(tokens) {
  const text = tokens.join("").replace(/^\n+/, "").split("\n")[0], notes = [], sounding = [];
  for (let k = 0; k < text.length - text.length % 4; k++) {
    const voice = k % 4, start = k >> 2, c = text[k];
    if (c === "-" && sounding[voice]) sounding[voice].length++;
    else if (c === "-" || c === ".") sounding[voice] = null;
    else notes.push(sounding[voice] = {voice, pitch: c.charCodeAt(0) - STRIKE, start, length: 1});
  }
  return notes;
}

const audio = {context: null, stop: null, began: 0, source: null, heard: 0};  // began: when the music that sounds began, on the context's clock; source: a waveform, heard: its samples

/** Play a waveform; the one before it ends. */
function playWave(wave, rate) {
  audio.source?.stop();
  const context = audio.context ??= new AudioContext(), buffer = context.createBuffer(1, wave.length, rate), source = audio.source = context.createBufferSource();
  context.resume();
  buffer.copyToChannel(Float32Array.from(wave), 0);
  source.buffer = buffer;
  source.connect(context.destination);
  source.start();
  audio.heard = wave.length;
}

/** Play notes from a sixteenth on: the first harmonics under a soft attack, as `synthesise` does.  Returns what was scheduled. */
function hear(notes, from = 0, ended = () => {}) {
  audio.stop?.();
  const context = audio.context ??= new AudioContext(), begin = context.currentTime + 0.1, out = context.createGain(), scheduled = [];
  audio.began = begin;
  out.gain.value = 0.16;
  out.connect(context.destination);
  context.resume();
  const wave = context.createPeriodicWave(new Float32Array(6), Float32Array.from([0, 1, 2 ** -1.5, 3 ** -1.5, 4 ** -1.5, 5 ** -1.5]));
  let last = begin;
  for (const {voice, pitch, start, length} of notes) {
    if (start < from) continue;
    const at = begin + (start - from) * SECONDS, end = at + length * SECONDS, tone = context.createOscillator(), envelope = context.createGain();
    tone.setPeriodicWave(wave);
    tone.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
    envelope.gain.setValueAtTime(0, at);
    envelope.gain.linearRampToValueAtTime(1, at + 0.02);
    envelope.gain.exponentialRampToValueAtTime(0.3, end);
    envelope.gain.linearRampToValueAtTime(0, end + 0.12);
    tone.connect(envelope).connect(out);
    tone.start(at);
    tone.stop(end + 0.15);
    last = Math.max(last, end);
    scheduled.push({voice, pitch, start, length});
  }
  const timer = setTimeout(() => audio.stop?.(), 1000 * (last - context.currentTime) + 200);
  audio.stop = () => { clearTimeout(timer); out.disconnect(); audio.stop = null; ended(); };
  return scheduled;
}

/** The roll so far: what was given is paler, what comes later isn't drawn. */
panels.roll = data => {
  const canvas = el("canvas", {role: "img"}), box = el("div", {class: "scroll roll", tabindex: "0", role: "group", "aria-label": `${data.title}: scrolls`}, canvas);
  const button = el("button", {type: "button", onclick: () => {
    if (audio.stop) return audio.stop();
    button.textContent = "■ stop";
    audio.scheduled = hear(notesOf(data.tokens), 0, () => { button.textContent = "▶ listen"; });
  }}, "▶ listen");
  const legend = el("div", {class: "legend"}, ...["soprano", "alto", "tenor", "bass"].map((name, v) => el("span", {}, el("i", {style: `background:${VOICES[v]}`}), name)));
  const cell = {width: 6, height: 7};
  let low = 36, high = 84;

  /** The notes of these tokens in columns of a sixteenth each, from one on; returns all notes. */
  function drawNotes(canvas, tokens, from, columns, ratio) {
    const notes = notesOf(tokens), width = columns * cell.width, height = (high - low + 1) * cell.height;
    canvas.width = width * ratio; canvas.height = height * ratio;
    const context = canvas.getContext("2d"), rgb = name => `rgb(${colour(name).join(" ")})`;
    context.scale(ratio, ratio);
    context.fillStyle = rgb("blank");
    context.fillRect(0, 0, width, height);
    context.translate(-from * cell.width, 0);
    context.fillStyle = rgb("line");
    for (let c = 0; c <= from + columns; c += 16) context.fillRect(c * cell.width, 0, 1, height);  // bar lines
    for (const {voice, pitch, start, length} of notes) {
      context.globalAlpha = 4 * start + voice < data.given ? 0.45 : 1;
      context.fillStyle = VOICES[voice];
      context.fillRect(start * cell.width + 0.5, (high - pitch) * cell.height, length * cell.width - 1, cell.height - 1);
    }
    return notes;
  }
  return {
    element: el("div", {}, box, el("div", {class: "controls"}, button, legend)),
    grow() {
      const pitches = notesOf(data.tokens).map(n => n.pitch);
      if (pitches.length) { low = Math.min(...pitches) - 1; high = Math.max(...pitches) + 1; }
    },
    show(i) {
      const tokens = data.tokens.slice(0, data.given + i + 1), columns = Math.max(64, Math.ceil(data.tokens.length / 4));
      const ratio = Math.min(2, devicePixelRatio || 1), height = (high - low + 1) * cell.height, notes = drawNotes(canvas, tokens, 0, columns, ratio);
      canvas.style.width = columns * cell.width + "px"; canvas.style.height = height + "px";
      const now = Math.floor((tokens.length - 1) / 4) * cell.width;
      if (now < box.scrollLeft || now > box.scrollLeft + box.clientWidth - 20) box.scrollLeft = now - box.clientWidth / 2;
      canvas.dataset.notes = notes.length;
      canvas.setAttribute("aria-label", `piano roll of four voices: ${counted(notes.length, "note")} in ${counted(Math.ceil(tokens.length / 4), "sixteenth")}`);
    },
    mini(canvas, i) {
      const tokens = data.tokens.slice(0, data.given + i + 1), now = Math.ceil(tokens.length / 4);
      drawNotes(canvas, tokens, Math.max(0, now - 32), 32, 2);
    },
  };
};
