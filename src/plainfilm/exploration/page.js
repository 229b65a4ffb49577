"use strict";
// The map: images as points of a plane, to colour, search, select and compare. Every text is set as text, never as markup.
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const n = data.files.length;
  const column = (name) => data.columns.findIndex((one) => one.name === name);
  const PATIENT = column("patient_id"), LABEL = Math.max(column("label"), 0);
  const colourable = data.columns.map((one, place) => place).filter((place) => data.columns[place].kind !== "text");
  for (const one of data.columns) {
    if (!one.rows) continue;
    const codes = new Array(n).fill(-1); // images outside the sample have no value
    one.rows.forEach((row, at) => { codes[row] = one.codes[at]; });
    one.codes = codes;
  }
  const thumbnail = new Int32Array(n).fill(-1);
  data.atlas.rows.forEach((row, place) => { thumbnail[row] = place; });

  const stage = $("stage"), points = $("points"), marks = $("marks"), tip = $("tip");
  const state = {
    embedding: 0, colour: LABEL, zoom: 1, panX: 0, panY: 0, current: -1, pins: [],
    hidden: data.columns.map(() => new Set()), found: null, selected: null, selecting: false, box: null,
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const say = (words) => { $("said").textContent = words; };
  const counted = (number, noun) => `${number.toLocaleString("en-US")} ${noun}${number === 1 ? "" : "s"}`;
  const plain = (text) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const pathOf = (i) => data.folders[data.folder[i]] + data.files[i];

  function make(tag, attributes = {}, ...inside) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") element.className = value;
      else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else element.setAttribute(name, value);
    }
    element.append(...inside);
    return element;
  }

  function valueOf(one, i) {
    if (one.kind === "category") return one.codes[i] < 0 ? null : one.names[one.codes[i]];
    return one.values[i] === null ? null : String(one.values[i]);
  }

  // ---- Places: each embedding centred, its longer half 1; moving from one to the next shows where images go

  const places = data.embeddings.map(({ rows, x, y }) => {
    const range = (axis) => {
      let low = Infinity, high = -Infinity;
      for (const value of axis) { low = Math.min(low, value); high = Math.max(high, value); }
      return low <= high ? [(low + high) / 2, (high - low) / 2] : [0, 0];
    };
    const [middleX, halfX] = range(x), [middleY, halfY] = range(y), half = Math.max(halfX, halfY) || 1;
    const scaled = (axis, middle) => {
      const place = new Float32Array(n).fill(NaN); // images that were not embedded have none
      axis.forEach((value, at) => { place[rows ? rows[at] : at] = (value - middle) / half; });
      return place;
    };
    return {
      x: scaled(x, middleX), y: scaled(y, middleY), count: x.length,
      halfX: halfX / half || 0.01, halfY: halfY / half || 0.01,
    };
  });
  let now = places[0];
  let width = 0, height = 0, ratio = 1;

  const unit = () => Math.min((width - 48) / 2 / now.halfX, (height - 48) / 2 / now.halfY) * state.zoom;
  const screenX = (i) => width / 2 + state.panX + now.x[i] * unit();
  const screenY = (i) => height / 2 + state.panY - now.y[i] * unit();

  function moveTo(embedding) {
    const from = now, to = places[embedding], started = performance.now();
    state.embedding = embedding;
    Object.assign(state, { zoom: 1, panX: 0, panY: 0 });
    describe();
    if (still.matches) { now = to; return draw(); }
    const between = (a, b, t) => a.map((value, i) => Number.isNaN(value) ? b[i] : value + (b[i] - value) * t);
    const step = (time) => {
      const t = Math.min(1, Math.max(0, (time - started) / 650)), eased = t * t * (3 - 2 * t);
      const mix = (name) => from[name] + (to[name] - from[name]) * eased;
      now = t === 1 || state.embedding !== embedding ? places[state.embedding] : {
        x: between(from.x, to.x, eased), y: between(from.y, to.y, eased), halfX: mix("halfX"), halfY: mix("halfY"),
      };
      paint();
      if (t < 1 && state.embedding === embedding) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  // ---- Colours: those of the drawings first (the page's variables, so light and dark), then generated ones

  const SHAPES = "●■▲◆▼✚✖";
  const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
  const theme = {};
  const parts = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const packed = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; // as canvas pixels lie in memory
  const mixed = (a, b, t) => a.map((value, channel) => Math.round(value + (b[channel] - value) * t));
  const css = (rgb) => `rgb(${rgb.join(" ")})`;

  function readTheme() {
    const style = getComputedStyle(document.documentElement);
    const variable = (name) => parts(style.getPropertyValue(name).trim());
    for (const name of ["card", "ink", "muted", "accent"]) theme[name] = variable(`--${name}`);
    theme.series = [1, 2, 3, 4, 5, 6, 7].map((number) => variable(`--series-${number}`));
    theme.missing = mixed(theme.muted, theme.card, 0.35);
    theme.isDark = theme.card[0] < 128;
  }

  function categoryColour(code) {
    if (code < theme.series.length) return theme.series[code];
    const hue = (code * 137.508 + 40) % 360, light = (theme.isDark ? 0.62 : 0.42) + 0.1 * (code % 3 - 1);
    const channel = (k) => light - 0.55 * Math.min(light, 1 - light) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return [0, 8, 4].map((offset) => Math.round(255 * channel((offset + hue / 30) % 12)));
  }

  function rampColour(t) {
    const at = Math.max(0, Math.min(1, t)) * (VIRIDIS.length - 1), left = Math.min(Math.floor(at), VIRIDIS.length - 2);
    return mixed(parts(VIRIDIS[left]), parts(VIRIDIS[left + 1]), at - left);
  }

  // Colours run from the 2nd to the 98th percentile: one wrong width would else take all the contrast.
  function scaleOf(one) {
    if (!one.scale) {
      const known = Float64Array.from(one.values.filter((value) => value !== null)).sort();
      const at = (share) => known[Math.round(share * (known.length - 1))] ?? 0;
      one.scale = { low: at(0.02), high: at(0.98), first: at(0), last: at(1), middle: at(0.5), known: known.length };
    }
    return one.scale;
  }

  const colour = new Uint32Array(n), dimmed = new Uint32Array(n), shape = new Uint8Array(n), shown = new Uint8Array(n);

  function colourAll() {
    const one = data.columns[state.colour], hidden = state.hidden[state.colour];
    const pale = (rgb) => packed(mixed(rgb, theme.card, 0.82));
    const missing = packed(theme.missing), missingPale = pale(theme.missing);
    if (one.kind === "number") {
      const { low, high } = scaleOf(one);
      const ramp = Array.from({ length: 256 }, (_, step) => rampColour(step / 255));
      const bright = ramp.map(packed), faint = ramp.map(pale);
      for (let i = 0; i < n; i++) {
        const value = one.values[i], known = value !== null;
        const step = known ? Math.max(0, Math.min(255, Math.round(255 * (value - low) / (high - low || 1)))) : 0;
        colour[i] = known ? bright[step] : missing;
        dimmed[i] = known ? faint[step] : missingPale;
        shape[i] = 0;
        shown[i] = 1;
      }
      return;
    }
    const palette = one.names.map((_, code) => categoryColour(code));
    const bright = palette.map(packed), faint = palette.map(pale);
    for (let i = 0; i < n; i++) {
      const code = one.codes[i];
      colour[i] = code < 0 ? missing : bright[code];
      dimmed[i] = code < 0 ? missingPale : faint[code];
      shape[i] = code < 0 ? 0 : code % SHAPES.length;
      shown[i] = hidden.has(code) ? 0 : 1;
    }
  }

  // ---- Painting: points are stamped into the pixels, in an order of their own so that no group hides another

  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1, seed = 7; i > 0; i--) {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const other = seed % (i + 1);
    [order[i], order[other]] = [order[other], order[i]];
  }
  const INSIDE = [
    (u, v) => u * u + v * v <= 1,
    (u, v) => Math.max(Math.abs(u), Math.abs(v)) <= 0.88,
    (u, v) => v <= 0.75 && Math.abs(u) <= (v + 1.15) * 0.6,
    (u, v) => Math.abs(u) + Math.abs(v) <= 1.25,
    (u, v) => v >= -0.75 && Math.abs(u) <= (1.15 - v) * 0.6,
    (u, v) => Math.min(Math.abs(u), Math.abs(v)) <= 0.38 && Math.max(Math.abs(u), Math.abs(v)) <= 1.1,
    (u, v) => Math.min(Math.abs(u + v), Math.abs(u - v)) <= 0.54 && Math.abs(u) + Math.abs(v) <= 1.56,
  ];
  let image = null, pixels = null, stamps = [], halos = null, margin = 0, stampKey = "", frame = 0;

  const radius = () => Math.min(9, Math.max(1.3, 8.6 - 1.55 * Math.log10(n + 1)) * state.zoom ** 0.3);

  // Offsets and opacities (0 to 256) of the pixels of one point.
  function stampOf(inside, r) {
    const reach = Math.ceil(1.6 * r + 1), offsets = [], opacities = [];
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        let hits = 0;
        for (let sample = 0; sample < 16; sample++) {
          hits += inside((dx + (sample % 4 - 1.5) / 4) / r, (dy + ((sample >> 2) - 1.5) / 4) / r) ? 1 : 0;
        }
        if (hits) { offsets.push(dy * points.width + dx); opacities.push(16 * hits); }
      }
    }
    return { reach, offsets: Int32Array.from(offsets), opacities: Uint16Array.from(opacities) };
  }

  function stamp({ offsets, opacities }, at, rgb) {
    for (let k = 0; k < offsets.length; k++) {
      const pixel = at + offsets[k], a = opacities[k];
      if (a === 256) { pixels[pixel] = rgb; continue; }
      const under = pixels[pixel], b = 256 - a;
      const redBlue = (((rgb & 0xff00ff) * a + (under & 0xff00ff) * b) >>> 8) & 0xff00ff;
      const green = (((rgb & 0x00ff00) * a + (under & 0x00ff00) * b) >>> 8) & 0x00ff00;
      pixels[pixel] = (0xff000000 | redBlue | green) >>> 0;
    }
  }

  function paint() {
    frame = 0;
    const r = radius() * ratio, key = `${r.toFixed(2)} ${points.width}`;
    if (key !== stampKey) {
      stamps = INSIDE.map((inside) => stampOf(r < 2 * ratio ? INSIDE[0] : inside, r)); // too small for a shape
      halos = r < 3 * ratio ? null : INSIDE.map((inside) => stampOf(inside, r + 1.2 * ratio));
      margin = Math.max(...(halos || stamps).map(({ reach }) => reach));
      stampKey = key;
    }
    const ground = packed(theme.card), bright = state.found || state.selected;
    pixels.fill(ground);
    let drawn = 0;
    const scale = unit() * ratio, left = (width / 2 + state.panX) * ratio, top = (height / 2 + state.panY) * ratio;
    const { x: placeX, y: placeY } = now, right = points.width - margin, bottom = points.height - margin;
    for (const wanted of bright ? [0, 1] : [1]) {
      for (let k = 0; k < n; k++) {
        const i = order[k];
        if (!shown[i] || (bright && bright[i] !== wanted)) continue;
        const x = Math.round(left + placeX[i] * scale), y = Math.round(top - placeY[i] * scale);
        if (!(x >= margin && y >= margin && x < right && y < bottom)) continue; // nan, too, is not within
        const at = y * points.width + x;
        if (halos) stamp(halos[shape[i]], at, ground);
        stamp(stamps[shape[i]], at, wanted ? colour[i] : dimmed[i]);
        drawn++;
      }
    }
    points.getContext("2d").putImageData(image, 0, 0);
    points.dataset.drawn = drawn;
    points.dataset.ready = "true";
    const all = drawn === n ? "" : ` of ${n.toLocaleString("en-US")}`;
    $("drawn").textContent = `${drawn.toLocaleString("en-US")}${all} ${n === 1 ? "image" : "images"} in view`;
    mark();
    placeTip();
  }

  function draw() { frame ||= requestAnimationFrame(paint); }

  function fit() {
    const box = stage.getBoundingClientRect();
    if (!box.width || (box.width === width && box.height === height && ratio === devicePixelRatio)) return;
    [width, height, ratio] = [box.width, box.height, Math.min(devicePixelRatio || 1, 3)];
    for (const canvas of [points, marks]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    image = points.getContext("2d").createImageData(points.width, points.height);
    pixels = new Uint32Array(image.data.buffer);
    paint();
  }

  // ---- Marks above the points: the current image, the other images of its patient, pins, the selection box

  function mates(i) {
    if (PATIENT < 0 || i < 0 || data.columns[PATIENT].codes[i] < 0) return [];
    const { codes } = data.columns[PATIENT], found = [];
    for (let other = 0; other < n; other++) if (codes[other] === codes[i] && other !== i) found.push(other);
    return found;
  }

  const visible = (i) => shown[i] && !Number.isNaN(now.x[i]);

  function mark() {
    const pen = marks.getContext("2d"), r = radius() + 3.5;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const ring = (i, rgb, line) => {
      pen.beginPath();
      pen.arc(screenX(i), screenY(i), r, 0, 7);
      pen.lineWidth = line;
      pen.strokeStyle = css(rgb);
      pen.stroke();
    };
    if (state.current >= 0 && visible(state.current)) {
      const others = mates(state.current).filter(visible).slice(0, 500);
      pen.beginPath();
      for (const other of others) {
        pen.moveTo(screenX(state.current), screenY(state.current));
        pen.lineTo(screenX(other), screenY(other));
      }
      pen.globalAlpha = 0.55;
      pen.lineWidth = 1.2;
      pen.strokeStyle = css(theme.ink);
      pen.stroke();
      pen.globalAlpha = 1;
      for (const other of others) ring(other, theme.ink, 1.4);
      ring(state.current, theme.ink, 2.6);
    }
    state.pins.forEach((i, place) => { if (visible(i)) flag(pen, i, String(place + 1)); });
    if (state.box) {
      const [x0, y0, x1, y1] = state.box;
      pen.setLineDash([5, 4]);
      pen.lineWidth = 1.4;
      pen.strokeStyle = css(theme.ink);
      pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
      pen.setLineDash([]);
    }
  }

  function flag(pen, i, text) {
    const x = screenX(i) + radius() + 5, y = screenY(i) - radius() - 7;
    pen.font = "600 11px system-ui, sans-serif";
    const wide = pen.measureText(text).width + 9;
    pen.fillStyle = css(theme.ink);
    pen.beginPath();
    pen.roundRect(x - wide / 2, y - 8, wide, 16, 8);
    pen.fill();
    pen.fillStyle = css(theme.card);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(text, x, y + 0.5);
  }

  // ---- Cards: an image and what the table says of it

  const atlas = $("atlas");
  const loaded = !atlas || atlas.complete ? Promise.resolve() : new Promise((done) => { atlas.onload = done; });

  function picture(i, size) {
    const at = thumbnail[i];
    if (at < 0) return make("div", { class: "no-picture" }, "no small picture kept");
    const canvas = make("canvas", { class: "picture", role: "img", "aria-label": `Image ${pathOf(i)}` });
    const { side, across } = data.atlas;
    canvas.width = canvas.height = Math.round(size * ratio);
    loaded.then(() => {
      const pen = canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      pen.drawImage(atlas, at % across * side, Math.floor(at / across) * side, side, side, 0, 0, canvas.width, canvas.height);
    });
    return canvas;
  }

  function facts(i, most) {
    const list = make("dl");
    const chosen = data.columns.filter((one, place) => place === LABEL || place === PATIENT || place === state.colour);
    const all = most ? chosen : [...chosen, ...data.columns.filter((one) => !chosen.includes(one))];
    for (const one of all) {
      const value = valueOf(one, i);
      if (value !== null) list.append(make("div", {}, make("dt", {}, one.name), " ", make("dd", {}, make("bdi", {}, value))));
    }
    return list;
  }

  function companions(i) {
    const others = mates(i), labels = data.columns[LABEL];
    if (PATIENT < 0 || data.columns[PATIENT].codes[i] < 0) return "Patient unknown";
    if (!others.length) return "The only image of this patient";
    const differ = others.filter((other) => valueOf(labels, other) !== valueOf(labels, i)).length;
    return `${counted(others.length, "more image")} of this patient${differ ? `, ${differ} under another label` : ""}`;
  }

  const card = (i, most) => make("div", { class: "card" },
    picture(i, 160),
    make("div", { class: "of" }, make("p", { class: "path" }, make("bdi", {}, pathOf(i))), facts(i, most),
      make("p", { class: "muted" }, companions(i))));

  function setCurrent(i, aloud = false) {
    if (i === state.current) return;
    state.current = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      tip.replaceChildren(card(i, true));
      placeTip();
      if (aloud) say([pathOf(i), ...[...tip.querySelectorAll("dl div")].map((fact) => fact.textContent), companions(i)].join(". "));
    }
    mark();
  }

  // Beside its point, on the side with more room; on a narrow screen in the corner away from it.
  function placeTip() {
    if (state.current < 0) return;
    const x = screenX(state.current), y = screenY(state.current), gap = 16 + radius();
    const { offsetWidth: wide, offsetHeight: tall } = tip;
    const isNarrow = Math.max(x, width - x) < wide + gap + 8;
    const left = x < width / 2 ? x + gap : x - gap - wide;
    const top = isNarrow ? (y < height / 2 ? height : 0) : y - tall / 2;
    const within = (value, most) => Math.round(Math.max(8, Math.min(value, most - 8)));
    tip.style.transform = `translate(${within(left, width - wide)}px, ${within(top, height - tall)}px)`;
  }

  function togglePin(i) {
    state.pins = state.pins.includes(i) ? state.pins.filter((pin) => pin !== i) : [...state.pins, i];
    $("pins").hidden = !state.pins.length;
    $("pinned").replaceChildren(...state.pins.map((pin, place) => make("li", {},
      make("p", { class: "pin" }, make("b", {}, String(place + 1)),
        make("button", { type: "button", "aria-label": `Unpin ${pathOf(pin)}`, onclick: () => togglePin(pin) }, "Unpin")),
      card(pin, false))));
    mark();
    write();
  }

  // ---- Picking

  function nearest(x, y, within) {
    let best = -1, least = within * within;
    const scale = unit(), left = width / 2 + state.panX - x, top = height / 2 + state.panY - y;
    for (let i = 0; i < n; i++) {
      const dx = left + now.x[i] * scale, dy = top - now.y[i] * scale, distance = dx * dx + dy * dy;
      if (distance < least && shown[i]) { least = distance; best = i; }
    }
    return best;
  }

  function neighbour(i, directionX, directionY) {
    let best = -1, least = Infinity;
    for (let other = 0; other < n; other++) {
      if (other === i || !visible(other)) continue;
      const dx = screenX(other) - screenX(i), dy = screenY(other) - screenY(i);
      const along = dx * directionX + dy * directionY, aside = Math.abs(dx * directionY - dy * directionX);
      if (along <= 0 || aside > along * 1.5) continue;
      const cost = along + 2 * aside;
      if (cost < least) { least = cost; best = other; }
    }
    return best;
  }

  function zoomAt(x, y, factor) {
    const zoom = Math.max(1, Math.min(40, state.zoom * factor)), by = zoom / state.zoom;
    state.panX = x - width / 2 - (x - width / 2 - state.panX) * by;
    state.panY = y - height / 2 - (y - height / 2 - state.panY) * by;
    state.zoom = zoom;
    if (zoom === 1) state.panX = state.panY = 0;
    draw();
  }

  function panBy(dx, dy) {
    state.panX += dx;
    state.panY += dy;
    draw();
  }

  // ---- Selection

  const countsBy = (one, rows) => {
    const counts = new Map();
    for (const i of rows) counts.set(one.codes[i], (counts.get(one.codes[i]) || 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1]);
  };

  function select(mask) {
    state.selected = mask && mask.includes(1) ? mask : null;
    showSelection();
    draw();
  }

  function selectWhere(condition) {
    select(Uint8Array.from({ length: n }, (_, i) => visible(i) && condition(i) ? 1 : 0));
  }

  function inBox(i, [x0, y0, x1, y1]) {
    const x = screenX(i), y = screenY(i);
    return x >= Math.min(x0, x1) && x <= Math.max(x0, x1) && y >= Math.min(y0, y1) && y <= Math.max(y0, y1);
  }

  function showSelection() {
    const panel = $("selection");
    panel.hidden = !state.selected;
    if (!state.selected) return say("Nothing selected.");
    const rows = [];
    state.selected.forEach((is, i) => { if (is) rows.push(i); });
    const one = data.columns[state.colour];
    const patients = PATIENT < 0 ? [] : countsBy(data.columns[PATIENT], rows).filter(([code]) => code >= 0);
    const of = patients.length ? ` of ${counted(patients.length, "patient")}` : "";
    $("selected-title").textContent = `${counted(rows.length, "image")}${of} selected`;
    say($("selected-title").textContent);
    $("bars").replaceChildren(...(one.kind === "category" ? bars(one, rows) : [spread(one, rows)]));
    const pictured = rows.filter((i) => thumbnail[i] >= 0), most = pictured.slice(0, 240);
    $("thumbs").replaceChildren(...most.map((i) => make("button",
      { type: "button", "aria-label": `Pin ${pathOf(i)}`, title: pathOf(i), onclick: () => togglePin(i), onpointerenter: () => setCurrent(i) },
      picture(i, 72))));
    $("thumbs-note").textContent = most.length < rows.length
      ? `${most.length.toLocaleString("en-US")} of ${counted(rows.length, "image")} pictured.` : "";
    $("paths").value = rows.map(pathOf).join("\n");
  }

  function bars(one, rows) {
    const counts = countsBy(one, rows), most = counts.slice(0, 12), all = new Map(countsBy(one, one.codes.keys()));
    const lines = most.map(([code, count]) => {
      const bar = make("i");
      bar.style.width = `${100 * count / rows.length}%`;
      bar.style.background = css(code < 0 ? theme.missing : categoryColour(code));
      return make("li", {}, make("bdi", {}, code < 0 ? "(no value)" : one.names[code]),
        make("span", { class: "bar" }, bar),
        make("span", { class: "num" }, `${count.toLocaleString("en-US")} (${(100 * count / rows.length).toFixed(0)} %) of ${all.get(code).toLocaleString("en-US")}`));
    });
    if (counts.length > most.length) lines.push(make("li", { class: "muted" }, `and ${counts.length - most.length} more values`));
    return lines;
  }

  function spread(one, rows) {
    const known = rows.map((i) => one.values[i]).filter((value) => value !== null).sort((a, b) => a - b);
    if (!known.length) return make("li", {}, `${one.name}: no value`);
    const middle = known[Math.floor(known.length / 2)];
    return make("li", {}, `${one.name}: ${known[0]} to ${known[known.length - 1]}, median ${middle} (${counted(known.length, "image")})`);
  }

  // ---- Search

  const lower = [];
  function find(text) {
    const wanted = text.trim().toLowerCase();
    if (!wanted) { state.found = null; $("found").textContent = ""; return draw(); }
    if (!lower.length) for (let i = 0; i < n; i++) lower.push(pathOf(i).toLowerCase());
    const patients = PATIENT < 0 ? null : data.columns[PATIENT];
    const named = patients ? patients.names.map((name) => name.toLowerCase().includes(wanted)) : [];
    state.found = Uint8Array.from(lower, (path, i) => path.includes(wanted) || (patients && named[patients.codes[i]]) ? 1 : 0);
    const count = state.found.reduce((sum, is) => sum + is, 0);
    $("found").textContent = count ? `${counted(count, "image")} found` : "nothing found";
    draw();
  }

  // ---- Legend

  function showLegend() {
    const one = data.columns[state.colour], hidden = state.hidden[state.colour];
    $("legend-title").textContent = one.name;
    $("legend-all").hidden = !hidden.size;
    if (one.kind === "number") return $("legend").replaceChildren(ramp(one));
    const counts = new Map(countsBy(one, one.codes.keys())), codes = one.names.map((_, code) => code);
    if (counts.has(-1)) codes.push(-1);
    const most = codes.slice(0, 40);
    $("legend").replaceChildren(...most.map((code) => legendLine(one, code, counts.get(code) || 0, hidden)));
    if (codes.length > most.length) $("legend").append(make("li", { class: "muted" }, `and ${(codes.length - most.length).toLocaleString("en-US")} more values`));
  }

  function legendLine(one, code, count, hidden) {
    const glyph = make("span", { class: "glyph", "aria-hidden": "true" }, code < 0 ? "●" : SHAPES[code % SHAPES.length]);
    glyph.style.color = css(code < 0 ? theme.missing : categoryColour(code));
    const only = () => {
      const rest = [-1, ...one.names.keys()].filter((other) => other !== code);
      const alone = hidden.size >= rest.length && !hidden.has(code);
      hidden.clear();
      if (!alone) rest.forEach((other) => hidden.add(other));
    };
    const toggle = (event) => {
      if (event.shiftKey) only();
      else if (!hidden.delete(code)) hidden.add(code);
      recolour();
      $("legend").querySelector(`[data-code="${code}"]`)?.focus();
    };
    return make("li", {}, make("button",
      { type: "button", "aria-pressed": String(!hidden.has(code)), "data-code": code, onclick: toggle, title: "Hide or show; with Shift: only this one" },
      glyph, make("bdi", {}, code < 0 ? "(no value)" : one.names[code]), make("span", { class: "num" }, count.toLocaleString("en-US"))));
  }

  function ramp(one) {
    const { low, high, first, last, middle, known } = scaleOf(one), bar = make("i", { class: "ramp" });
    bar.style.background = `linear-gradient(to right, ${VIRIDIS.join(", ")})`;
    const ends = make("span", { class: "ends" },
      make("span", {}, `${first < low ? "≤ " : ""}${low}`), make("span", {}, `${last > high ? "≥ " : ""}${high}`));
    const missing = known < n ? `; ${(n - known).toLocaleString("en-US")} without a value` : "";
    return make("li", {}, bar, ends, make("p", { class: "muted" }, `${first} to ${last}, median ${middle}${missing}`));
  }

  function recolour() {
    colourAll();
    showLegend();
    if (state.selected) showSelection();
    draw();
  }

  function describe() {
    const { name, settings } = data.embeddings[state.embedding];
    const known = places[state.embedding].count;
    $("settings").textContent = `${name} of ${counted(known, "image")}${settings ? `: ${settings}` : ""}`;
    stage.setAttribute("aria-label", `${name}: a map of ${counted(known, "image")}`);
  }

  // ---- Hands: pointer, wheel, keys

  const down = new Map();
  let moved = 0, touched = -1;
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button || event.target.closest("button")) return;
    const [x, y] = at(event);
    stage.setPointerCapture(event.pointerId);
    down.set(event.pointerId, [x, y]);
    moved = 0;
    if (down.size === 1 && (event.shiftKey || state.selecting)) state.box = [x, y, x, y];
  });
  stage.addEventListener("pointermove", (event) => {
    const [x, y] = at(event), before = down.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse" && !event.target.closest("button")) setCurrent(nearest(x, y, 14));
      return;
    }
    moved += Math.abs(x - before[0]) + Math.abs(y - before[1]);
    down.set(event.pointerId, [x, y]);
    if (state.box) { state.box[2] = x; state.box[3] = y; return mark(); }
    if (down.size === 2) {
      const [[ax, ay], [bx, by]] = [...down].map(([id, place]) => id === event.pointerId ? before : place);
      const [[cx, cy], [dx, dy]] = [...down.values()];
      zoomAt((cx + dx) / 2, (cy + dy) / 2, Math.hypot(cx - dx, cy - dy) / (Math.hypot(ax - bx, ay - by) || 1));
      return;
    }
    if (moved > 4) panBy(x - before[0], y - before[1]);
  });
  const lift = (event) => {
    if (!down.delete(event.pointerId)) return;
    const [x, y] = at(event), box = state.box;
    state.box = null;
    if (event.type === "pointercancel") return mark();
    if (box && moved > 4) return selectWhere((i) => inBox(i, box));
    if (moved > 4) return;
    const touch = event.pointerType !== "mouse", i = nearest(x, y, touch ? 24 : 14);
    setCurrent(i);
    if (i >= 0 && (!touch || touched === i)) togglePin(i); // a first touch shows the image, a second pins it
    if (i < 0 && state.selected) select(null);
    touched = i;
  };
  stage.addEventListener("pointerup", lift);
  stage.addEventListener("pointercancel", lift);
  stage.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse" && !down.size) setCurrent(-1); });
  stage.addEventListener("wheel", (event) => {
    const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.06 : 0.0022));
    if (factor < 1 && state.zoom === 1) return; // nothing to zoom out of: the page scrolls on
    event.preventDefault();
    zoomAt(...at(event), factor);
  }, { passive: false });

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  stage.addEventListener("keydown", (event) => {
    if (event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = ARROWS[event.key];
    if (arrow && event.shiftKey) panBy(-60 * arrow[0], -60 * arrow[1]);
    else if (arrow && state.current < 0) setCurrent(nearest(width / 2, height / 2, Infinity), true);
    else if (arrow) { const next = neighbour(state.current, ...arrow); if (next >= 0) setCurrent(next, true); }
    else if (event.key === "+" || event.key === "=") zoomAt(...focusPlace(), 1.4);
    else if (event.key === "-") zoomAt(...focusPlace(), 1 / 1.4);
    else if (event.key === "0") zoomAt(width / 2, height / 2, 0);
    else if ((event.key === "Enter" || event.key === " ") && state.current >= 0) togglePin(state.current);
    else if (event.key === "Escape") { if (state.current >= 0) setCurrent(-1); else select(null); }
    else return;
    event.preventDefault();
  });
  const focusPlace = () => state.current < 0 ? [width / 2, height / 2] : [screenX(state.current), screenY(state.current)];

  // ---- Address: what is looked at stands behind the #, so that a view can be sent or kept

  function write() {
    const view = new URLSearchParams({ embed: plain(data.embeddings[state.embedding].name), colour: data.columns[state.colour].name });
    if (state.pins.length) view.set("pin", state.pins.join(","));
    if ($("find").value) view.set("find", $("find").value);
    try { history.replaceState(null, "", `#${view}`); } catch { /* some readers forbid it; the page works without */ }
  }

  function read() {
    const view = new URLSearchParams(location.hash.slice(1));
    const embedding = data.embeddings.findIndex(({ name }) => plain(name) === plain(view.get("embed") || ""));
    if (embedding >= 0) { state.embedding = embedding; now = places[embedding]; }
    const chosen = column(view.get("colour"));
    if (colourable.includes(chosen)) state.colour = chosen;
    $("find").value = view.get("find") || "";
    return view;
  }

  function follow(view) {
    find($("find").value);
    const row = (text) => /^\d+$/.test(text || "") && Number(text) < n ? Number(text) : -1;
    const pins = (view.get("pin") || "").split(",").map(row);
    for (const pin of new Set(pins)) if (pin >= 0) togglePin(pin);
    if (view.get("select") === "all") selectWhere(() => true);
    else if (view.get("select") === "found" && state.found) select(state.found);
    if (row(view.get("image")) >= 0) setCurrent(row(view.get("image")));
  }

  // ---- Start

  function start() {
    $("map").hidden = $("to-map").hidden = false;
    readTheme();
    const view = read();
    $("embeddings").append(...data.embeddings.map(({ name }, place) => make("label", {},
      make("input", { type: "radio", name: "embedding", value: place, ...(place === state.embedding && { checked: "" }), onchange: () => { moveTo(place); write(); } }),
      make("span", {}, name))));
    $("colour").append(...colourable.map((place) => make("option", { value: place, ...(place === state.colour && { selected: "" }) }, data.columns[place].name)));
    $("colour").addEventListener("change", (event) => { state.colour = Number(event.target.value); recolour(); write(); });
    let waiting = 0;
    $("find").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => { find($("find").value); write(); }, 120); });
    $("find").addEventListener("keydown", (event) => {
      if (event.key === "Enter") { find($("find").value); if (state.found) select(state.found); }
    });
    $("legend-all").addEventListener("click", () => { state.hidden[state.colour].clear(); recolour(); });
    $("closer").addEventListener("click", () => zoomAt(width / 2, height / 2, 1.5));
    $("farther").addEventListener("click", () => zoomAt(width / 2, height / 2, 1 / 1.5));
    $("whole").addEventListener("click", () => zoomAt(width / 2, height / 2, 0));
    $("selecting").addEventListener("click", (event) => {
      state.selecting = !state.selecting;
      event.currentTarget.setAttribute("aria-pressed", String(state.selecting));
    });
    $("select-view").addEventListener("click", () => selectWhere((i) => inBox(i, [0, 0, width, height])));
    $("unselect").addEventListener("click", () => { select(null); stage.focus(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readTheme(); recolour(); });
    new ResizeObserver(fit).observe(stage);
    addEventListener("beforeprint", () => { $("still").open = true; });
    $("still").open = false;
    colourAll();
    showLegend();
    describe();
    fit();
    follow(view);
    paint();
  }

  start();
})();
