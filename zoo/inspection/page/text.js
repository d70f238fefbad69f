// Text, token by token: the text, the candidates, what each layer would predict, what each part added, and where each head looked.

/** The text so far; the stronger a token's colour, the less probable it was. */
panels.text = (data, run) => {
  const element = el("div", {class: "text", tabindex: "0", role: "region", "aria-label": "the text so far"}), spans = [], scroll = follow(element, spans);
  function make(token, k) {
    const i = k - data.given, text = token.replaceAll("\n", "↵\n") || "�";
    if (i < 0) return el("span", {class: "prompt"}, text);
    const p = values(data.probabilities)[i];
    return el("span", {title: `${visible(token)}: ${percent(p)}`, onclick: () => { player.play(false); player.go(i); },
      style: `background:color-mix(in srgb, var(--surprise) ${Math.round(50 * (1 - p))}%, transparent)`}, text);
  }
  let before = null;
  return {
    element,
    grow(restarted) {
      if (restarted) { spans.length = 0; element.replaceChildren(); }
      const added = data.tokens.slice(spans.length).map((token, j) => make(token, spans.length + j));
      spans.push(...added);
      element.append(...added);
    },
    show(i) {
      spans.forEach((span, k) => span.classList.toggle("later", k > i + data.given));
      before?.classList.remove("now");
      before = spans[i + data.given];
      before.classList.add("now");
      scroll(i + data.given);
    },
  };
};

/** Tokens as bars: their probabilities before and after each filter; below, the interval [0, 1] in which the random number selects one. */
panels.candidates = (data, run) => {
  const n = data.most, stages = Object.keys(data.stages);
  const table = el("div", {class: "stages", role: "table", "aria-label": data.title, style: `grid-template-columns: clamp(2.4rem, 15%, 6rem) repeat(${stages.length}, minmax(0, 1fr))`},
    el("div", {role: "row"}, el("span", {class: "head", role: "columnheader"}, "token"), ...stages.map(name => el("span", {class: "head", role: "columnheader"}, name))));
  const rows = Array.from({length: n}, () => {
    const token = el("span", {class: "token"}), cells = stages.map(() => ({fill: el("div", {class: "fill"}), value: el("span")}));
    table.append(el("div", {role: "row"}, el("div", {role: "rowheader"}, token), ...cells.map(c => el("div", {class: "cell", role: "cell"}, el("div", {class: "track"}, c.fill), c.value))));
    return {token, cells};
  });
  const mark = el("i"), segments = rows.map(() => el("div")), line = el("div", {class: "draw", role: "img", "aria-label": "the random number"}, ...segments, mark);
  const note = el("p", {class: "note"});
  return {
    element: el("div", {}, table, line, note),
    show(i) {
      const chosen = data.chosen[i], ranges = row(data.ranges, i), draw = data.draws[i];
      rows.forEach(({token, cells}, k) => {
        setText(token, visible(data.texts[i][k]));
        token.classList.toggle("chosen", k === chosen);
        cells.forEach(({fill, value}, j) => {
          const p = row(data.stages[stages[j]], i)[k];
          fill.style.transform = `scaleX(${p})`;
          setText(value, percent(p));
          value.parentElement.classList.toggle("out", p === 0);
        });
        const from = ranges[2 * k], to = ranges[2 * k + 1];
        segments[k].style.left = 100 * from + "%";
        segments[k].style.width = 100 * (to - from) + "%";
        segments[k].textContent = to - from > 0.04 ? visible(data.texts[i][k]) : "";
        segments[k].classList.toggle("chosen", k === chosen);
        segments[k].classList.toggle("hidden", to <= from);
      });
      mark.classList.toggle("hidden", draw === null);
      if (draw !== null) { mark.style.left = 100 * draw + "%"; mark.dataset.value = draw.toFixed(3); }
      const interval = `${ranges[2 * chosen].toFixed(3)} to ${ranges[2 * chosen + 1].toFixed(3)}`;
      note.textContent = draw === null ? "Temperature 0: the most likely token is taken; no random number is sampled." : `The random number ${draw.toFixed(4)} lies in the interval of ${visible(data.texts[i][chosen])}, ${interval}.`;
      line.setAttribute("aria-label", note.textContent);
    },
  };
};

/** For each layer the tokens that it would predict, and the probability of the one that was chosen. */
panels.lens = (data, run) => {
  const most = data.most;
  const rows = data.rows.map(name => {
    const cells = Array.from({length: most}, () => el("td", {}, el("span", {class: "token"}))), probability = el("td", {class: "number"});
    return {cells, probability, row: el("tr", {}, el("th", {scope: "row"}, name), ...cells, probability)};
  }).reverse();  // the last layer on top
  const chosenToken = el("th", {scope: "col"}, el("span", {class: "token"}));
  const table = el("table", {class: "lens"}, el("thead", {}, el("tr", {}, el("th", {scope: "col"}, "after"), ...Array.from({length: most}, (_, k) => el("th", {scope: "col"}, `${k + 1}.`)), chosenToken)),
    el("tbody", {}, ...rows.map(r => r.row)));
  return {
    element: el("div", {class: "scroll", tabindex: "0", role: "group", "aria-label": `${data.title}: scrolls`}, table),
    show(i) {
      const probabilities = row(data.probabilities, i), chosen = row(data.chosen, i);
      setText(chosenToken.firstChild, visible(data.tokens[i]));
      rows.forEach(({cells, probability}, r) => {
        const layer = rows.length - 1 - r;
        cells.forEach((cell, k) => {
          const p = probabilities[layer * most + k], text = data.texts[i][layer][k];
          setText(cell.firstChild, visible(text));
          cell.title = percent(p);
          cell.style.background = `color-mix(in srgb, var(--probability) ${Math.round(50 * p)}%, transparent)`;
          cell.classList.toggle("hit", text === data.tokens[i]);
        });
        setText(probability, percent(chosen[layer]));
      });
    },
  };
};

/** The parts that changed the token's logit most, up or down. */
panels.contributions = (data, run) => {
  const most = Math.min(10, data.labels.length), element = el("div", {class: "bars signed"}), total = el("p", {class: "note"});
  const rows = Array.from({length: most}, () => {
    const name = el("span"), fill = el("div", {class: "fill"}), value = el("span", {class: "value"});
    element.append(name, el("div", {class: "track"}, fill), value);
    return {name, fill, value};
  });
  return {
    element: el("div", {}, element, total),
    show(i) {
      const now = row(data.values, i), order = Array.from(now.keys()).sort((a, b) => Math.abs(now[b]) - Math.abs(now[a])), top = Math.abs(now[order[0]]) || 1;
      rows.forEach(({name, fill, value}, k) => {
        const v = now[order[k]], part = v / top;
        name.textContent = data.labels[order[k]];
        fill.style.left = fill.style.width = "50%";
        fill.style.transform = `scaleX(${part})`;
        fill.style.background = v >= 0 ? "var(--positive)" : "var(--negative)";
        value.textContent = (v >= 0 ? "+" : "−") + Math.abs(v).toFixed(2);
      });
      total.textContent = `Sum of all parts: ${row(data.total, i)[0].toFixed(2)} above the mean logit.`;
    },
  };
};

/** The text shaded by where one head looked when this token was chosen, and all heads as small strips. */
panels.attention = (data, run) => {
  const name = l => data.names?.[l] ?? `blocks.${l}`;  // a page may show some of the layers
  let offsets;  // of each step's weights among all
  const weights = (i, layer, head) => {
    const size = data.sizes[i], at = offsets[i] + (layer * data.heads + head) * size;
    return values(data.values).subarray(at, at + size);
  };
  const mean = i => {
    const sum = new Float32Array(data.sizes[i]);
    for (let l = 0; l < data.layers; l++) for (let h = 0; h < data.heads; h++) weights(i, l, h).forEach((v, k) => { sum[k] += v / data.layers / data.heads; });
    return sum;
  };
  chosen.layer ??= data.layers - 1;
  chosen.head ??= 0;
  const option = (value, text) => el("option", {value}, text);
  const layers = el("select", {"aria-label": "layer", onchange: e => choose("layer", Number(e.target.value))},
    option(-1, "mean of all"), ...Array.from({length: data.layers}, (_, l) => option(l, name(l))));
  const heads = el("select", {"aria-label": "head", onchange: e => choose("head", Number(e.target.value))}, ...Array.from({length: data.heads}, (_, h) => option(h, `head.${h}`)));
  const spans = [], levels = [], text = el("div", {class: "text", role: "img", tabindex: "0", style: "max-height: 15rem"}), scroll = follow(text, spans);
  let drawnWith = "", line;
  const grid = el("div", {class: "heads", style: `grid-template-columns: auto repeat(${data.heads}, minmax(0, 1fr))`});
  const small = [];
  for (let l = 0; l < data.layers; l++) {
    grid.append(el("span", {class: "note"}, name(l)));
    for (let h = 0; h < data.heads; h++) {
      const canvas = el("canvas"), button = el("button", {"aria-label": `${name(l)}.head.${h}`, onclick: () => { chosen.layer = l; choose("head", h); }}, canvas);
      small.push({l, h, canvas, button});
      grid.append(button);
    }
  }
  const strongest = el("p", {class: "note"});
  return {
    element: el("div", {}, el("div", {class: "controls"}, el("label", {}, "layer", layers), el("label", {}, "head", heads), strongest), text,
      el("p", {class: "note", style: "margin-top:.6rem"}, "All heads, one row per layer; the text runs from left to right:"), grid),
    grow(restarted) {
      if (restarted) { spans.length = levels.length = 0; offsets = [0]; text.replaceChildren(); }
      const added = data.tokens.slice(spans.length).map(token => el("span", {}, token.replaceAll("\n", "↵\n") || "�"));
      spans.push(...added);
      text.append(...added);
      while (offsets.length <= data.sizes.length) offsets.push(offsets.at(-1) + data.layers * data.heads * data.sizes[offsets.length - 1]);
      line = new Float32Array(spans.length);
    },
    show(i) {
      const {layer, head} = chosen, start = data.starts[i], now = layer < 0 ? mean(i) : weights(i, layer, head);
      const accent = colour("accent").join(" ");
      if (accent !== drawnWith) { levels.length = 0; drawnWith = accent; }
      layers.value = layer; heads.value = head; heads.disabled = layer < 0;
      spans.forEach((span, k) => {
        const w = k < start ? 0 : now[k - start] ?? 0;
        span.classList.toggle("later", k > data.positions[i]);
        span.classList.toggle("now", k === data.positions[i]);
        const level = w > 0.004 ? Math.round(20 * Math.sqrt(w)) : 0;  // 20 levels, so that most spans don't change; above 50% the text on them is hard to read
        if (levels[k] !== level) { span.style.background = level ? `rgb(${accent} / ${2.5 * level}%)` : ""; levels[k] = level; }
      });
      scroll(data.positions[i]);
      let top = 0;
      now.forEach((w, k) => { if (w > now[top]) top = k; });
      strongest.textContent = `most attention on ${visible(data.tokens[start + top])}, ${data.positions[i] - start - top} back: ${percent(now[top])}`;
      text.setAttribute("aria-label", strongest.textContent);
      for (const {l, h, canvas, button} of small) {
        line.fill(0);
        line.set(weights(i, l, h), start);
        paint(canvas, line, 1, line.length, "heat", 1);
        button.setAttribute("aria-pressed", String(l === layer && h === head));
      }
    },
  };
};
