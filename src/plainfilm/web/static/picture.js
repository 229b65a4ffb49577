// The picture on the canvas, seen through a window of its own values.

const BINS = 1024;

export class Picture {
  constructor(view) {
    const raw = Uint8Array.from(atob(view.pixels), (char) => char.charCodeAt(0));
    this.values = view.depth === 8 ? raw : new Uint16Array(raw.buffer);
    this.width = view.width;
    this.height = view.height;
    this.most = view.depth === 8 ? 255 : 65535;
    this.low = view.low;
    this.high = view.high;
    this.model = [this.stored(view.model_low), this.stored(view.model_high)];
    this.range = this.extent();
    this.inverted = false;
    this.fit();
  }

  stored(value) {
    return ((value - this.low) / (this.high - this.low || 1)) * this.most;
  }

  shown(stored) {
    return this.low + (stored / this.most) * (this.high - this.low);
  }

  extent() {
    let low = Infinity, high = -Infinity;
    for (const value of this.values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return [low, high];
  }

  // All of it for 8 bits; else without the darkest and brightest half a per cent.
  fit() {
    if (this.most === 255) return this.set(0, 255);
    const [low, high] = this.range, counts = new Uint32Array(BINS), step = (high - low || 1) / BINS;
    for (const value of this.values) counts[Math.min(BINS - 1, Math.floor((value - low) / step))]++;
    const cut = this.values.length * 0.005;
    let first = 0, last = BINS - 1;
    for (let sum = 0; first < BINS - 1 && (sum += counts[first]) <= cut; ) first++;
    for (let sum = 0; last > first && (sum += counts[last]) <= cut; ) last--;
    return this.set(low + first * step, low + (last + 1) * step);
  }

  asModel() {
    return this.set(...this.model);
  }

  set(from, to) {
    this.from = from;
    this.to = Math.max(to, from + 1e-9);
  }

  // Sliders run over what the image holds, 0 to 1000.
  get level() {
    return 1000 * (((this.from + this.to) / 2 - this.range[0]) / (this.range[1] - this.range[0] || 1));
  }

  get span() {
    return 1000 * ((this.to - this.from) / (this.range[1] - this.range[0] || 1));
  }

  slide(level, span) {
    const size = this.range[1] - this.range[0] || 1;
    const middle = this.range[0] + (level / 1000) * size, half = (Math.max(span, 1) / 2000) * size;
    this.set(middle - half, middle + half);
  }

  words() {
    const digits = Math.abs(this.high - this.low) < 10 ? 3 : 0;
    const [from, to] = [this.shown(this.from), this.shown(this.to)].map((value) => value.toFixed(digits));
    return `${from} to ${to}${this.inverted ? ", inverted" : ""}`;
  }

  draw(canvas) {
    canvas.width = this.width;
    canvas.height = this.height;
    const context = canvas.getContext("2d"), image = context.createImageData(this.width, this.height);
    const table = new Uint8Array(this.most + 1), scale = 255 / (this.to - this.from);
    for (let value = 0; value <= this.most; value++) {
      const grey = Math.max(0, Math.min(255, Math.round((value - this.from) * scale)));
      table[value] = this.inverted ? 255 - grey : grey;
    }
    const { data } = image;
    for (let at = 0; at < this.values.length; at++) {
      const grey = table[this.values[at]];
      data[4 * at] = data[4 * at + 1] = data[4 * at + 2] = grey;
      data[4 * at + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }
}
