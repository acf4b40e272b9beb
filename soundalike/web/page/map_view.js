// @ts-check
/** The map as it is looked at: moved, made larger, pointed at, drawn around; with the names of its regions. */

import { clean, colour, emit, icon, iconButton, make, on } from "./dom.js";
import { Cloud } from "./map_gl.js";

/** How many times as large it can be made, and by one step. */
const MOST_ZOOM = 200;
const STEP = 1.5;
/** Pixels: how near a pointer has to be to a point; what is no drag yet; between corners that are drawn; an arrow key moves. */
const NEAR_PX = 14;
const STILL_PX = 4;
const APART_PX = 4;
const ARROW_PX = 60;
/** Corners that the server takes. */
const MOST_CORNERS = 1000;
/** Share of the stage that the whole map takes. */
const FILLED = 0.92;

/** Emits `over` {index}, `pick` {index}, `alike`, `leave`, `lasso` {corners}, `overlay` {pen, to}. */
export class View extends EventTarget {
  /** Centre in the map's coordinates, and how many times as large as the whole. */
  x = 0.5;
  y = 0.5;
  zoom = 1;
  current = -1;
  /** @type {import("./map_data.js").Points | null} */
  points = null;
  /** @type {Map<number, [number, number]>} pointers that are down, and where */
  down = new Map();
  /** @type {[number, number][] | null} corners while one draws, in the map's coordinates */
  lasso = null;
  drawing = false;
  travelled = 0;
  /** @type {number | undefined} */
  frame;
  /** @type {Uint8Array | null} */
  shades = null;
  /** @type {{element: any, x: number, y: number, width: number}[]} */
  names = [];

  /** @param {HTMLCanvasElement} canvas @param {WebGL2RenderingContext} gl */
  constructor(canvas, gl) {
    super();
    this.canvas = canvas;
    this.gl = gl;
    this.cloud = new Cloud(gl);
    this.over = make("canvas", { "aria-hidden": "true" });
    this.labels = make("div.map-names", { "aria-hidden": "true" });
    this.draws = make("button.icon", { id: "map-lasso", title: "Draw around a part (or Shift and drag)", "aria-label": "Draw around a part", "aria-pressed": "false", onclick: () => this.draw_around(!this.drawing) }, icon("lasso"));
    const tools = make("div.map-tools", { onpointerdown: (event) => event.stopPropagation() }, this.draws,
      iconButton("plus", "Closer (+)", () => this.closer(STEP), { id: "map-closer" }), iconButton("minus", "Farther (−)", () => this.closer(1 / STEP)), iconButton("whole", "The whole map (0)", () => this.whole()));
    this.stage = make("div.map-stage", { id: "map-stage", tabindex: 0, role: "application", "aria-label": "Map of the windows. Arrow keys go from one to the next, Enter plays it, L finds what is like it, plus and minus come closer and go farther, Shift and arrows move the map.", onkeydown: (event) => this.press(event) }, canvas, this.over, this.labels, tools);
    on(this.stage, "pointerdown", (event) => this.begin(event));
    on(this.stage, "pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) on(this.stage, name, (event) => this.end(event));
    on(this.stage, "pointerleave", (event) => {
      // A finger leaves with each tap.
      if (this.down.size || event.pointerType !== "mouse") return;
      this.current = -1;
      emit(this, "leave");
    });
    this.stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.closer(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), this.point(event));
    }, { passive: false });
    on(canvas, "webglcontextlost", (event) => event.preventDefault());
    on(canvas, "webglcontextrestored", () => {
      this.cloud = new Cloud(gl);
      if (this.points) this.cloud.place(this.points.pairs);
      if (this.shades) this.paint(this.shades);
    });
    new ResizeObserver(() => this.resize()).observe(this.stage);
  }

  /** @param {import("./map_data.js").Points} points @param {import("./map_data.js").Region[]} regions */
  show(points, regions) {
    this.points = points;
    this.current = -1;
    this.cloud.place(points.pairs);
    const largest = regions.filter((one) => one.num_windows).sort((one, other) => other.num_windows - one.num_windows);
    const elements = largest.map((one) => make("span", {}, one.name));
    this.labels.replaceChildren(...elements);
    this.names = largest.map(({ x, y }, index) => ({ element: elements[index], x, y, width: elements[index].offsetWidth }));
  }

  /** @param {Uint8Array} shades red, green, blue and alpha of each point */
  paint(shades) {
    this.shades = shades;
    this.cloud.shade(shades);
    this.redraw();
  }

  // --- where things are --------------------------------------------------------------------------

  resize() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!width) return;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.redraw();
  }

  /** Pixels of a length of 1. */
  get unit() {
    return Math.min(this.stage.clientWidth, this.stage.clientHeight) * FILLED * this.zoom;
  }

  /** @param {number} x @param {number} y @returns {[number, number]} pixels of the stage */
  to(x, y) {
    return [this.stage.clientWidth / 2 + (x - this.x) * this.unit, this.stage.clientHeight / 2 - (y - this.y) * this.unit];
  }

  /** @param {[number, number]} pixels @returns {[number, number]} */
  from([right, down]) {
    return [this.x + (right - this.stage.clientWidth / 2) / this.unit, this.y - (down - this.stage.clientHeight / 2) / this.unit];
  }

  /** @param {{clientX: number, clientY: number}} event @returns {[number, number]} */
  point({ clientX, clientY }) {
    const { left, top } = this.stage.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  // --- drawing -----------------------------------------------------------------------------------

  redraw() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.draw();
    });
  }

  draw() {
    const { points, unit } = this;
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (!points || !this.shades || !width) return;
    const scale = /** @type {[number, number]} */ ([(2 * unit) / width, (2 * unit) / height]);
    const few = Math.cbrt(20_000 / Math.max(points.count, 300));
    const size = Math.min(16, Math.max(1.6, 3.2 * Math.min(few, 2.2)) * this.zoom ** 0.4);
    this.cloud.draw(scale, [-this.x * scale[0], -this.y * scale[1]], size * (devicePixelRatio || 1));
    this.name();
    this.overlay();
    if (!this.stage.dataset.drawn) requestAnimationFrame(() => { this.stage.dataset.drawn = String(performance.now()); });
  }

  /** Put the names of regions where they are, the largest first; what would lie over another waits for room. */
  name() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    /** @type {number[][]} */
    const taken = [];
    for (const one of this.names) {
      const [middle, y] = this.to(one.x, one.y);
      const [left, right, top, bottom] = [middle - one.width / 2, middle + one.width / 2, y - 9, y + 9];
      const fits = left >= 0 && right <= width - 44 && top >= 0 && bottom <= height && taken.every(([l, r, t, b]) => right + 4 < l || left - 4 > r || bottom + 3 < t || top - 3 > b);
      one.element.style.visibility = fits ? "visible" : "hidden";
      if (!fits) continue;
      taken.push([left, right, top, bottom]);
      one.element.style.transform = `translate(${left}px, ${top}px)`;
    }
  }

  /** What lies over the points: marks, and what is being drawn around. */
  overlay() {
    if (!this.stage.clientWidth) return;
    const { pen } = clean(this.over);
    emit(this, "overlay", { pen, to: (x, y) => this.to(x, y) });
    if (!this.lasso) return;
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 2;
    pen.setLineDash([6, 4]);
    pen.beginPath();
    this.lasso.forEach(([x, y]) => pen.lineTo(...this.to(x, y)));
    pen.stroke();
  }

  // --- moving ------------------------------------------------------------------------------------

  /** @param {number} times @param {[number, number]} [around] pixels that stay where they are */
  closer(times, around = [this.stage.clientWidth / 2, this.stage.clientHeight / 2]) {
    const [x, y] = this.from(around);
    this.zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * times));
    const [newX, newY] = this.from(around);
    this.shift(x - newX, y - newY);
  }

  /** @param {number} x @param {number} y in the map's coordinates */
  shift(x, y) {
    this.x = Math.min(1, Math.max(0, this.x + x));
    this.y = Math.min(1, Math.max(0, this.y + y));
    this.redraw();
  }

  whole() {
    Object.assign(this, { x: 0.5, y: 0.5, zoom: 1 });
    this.redraw();
  }

  /** @param {boolean} drawing */
  draw_around(drawing) {
    this.drawing = drawing;
    this.lasso = null;
    this.draws.setAttribute("aria-pressed", String(drawing));
    this.stage.classList.toggle("draws", drawing);
    this.overlay();
  }

  /** @param {PointerEvent} event */
  begin(event) {
    if (event.button) return;
    this.stage.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, this.point(event));
    this.travelled = 0;
    if (this.down.size > 1) this.lasso = null;
    else if (event.shiftKey || this.drawing) this.lasso = [this.from(this.point(event))];
  }

  /** @param {PointerEvent} event */
  move(event) {
    const now = this.point(event);
    const before = this.down.get(event.pointerId);
    if (!before) return this.hover(now);
    const [right, down] = [now[0] - before[0], now[1] - before[1]];
    if (this.lasso) {
      if (Math.hypot(right, down) < APART_PX) return;
      this.lasso.push(this.from(now));
      this.overlay();
    } else if (this.down.size === 2) {
      const [other] = [...this.down].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
      const apart = (where) => Math.max(1, Math.hypot(where[0] - other[0], where[1] - other[1]));
      this.closer(apart(now) / apart(before), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
      this.shift(-right / 2 / this.unit, down / 2 / this.unit);
    } else this.shift(-right / this.unit, down / this.unit);
    this.travelled += Math.hypot(right, down);
    this.stage.classList.toggle("moves", !this.lasso && this.travelled > STILL_PX);
    this.down.set(event.pointerId, now);
  }

  /** @param {PointerEvent} event */
  end(event) {
    if (!this.down.delete(event.pointerId)) return;
    this.stage.classList.remove("moves");
    const { lasso } = this;
    if (lasso && this.down.size === 0) {
      this.draw_around(false);
      const every = Math.ceil(lasso.length / MOST_CORNERS);
      if (lasso.length > 2 && event.type === "pointerup") emit(this, "lasso", lasso.filter((_, index) => index % every === 0));
    } else if (event.type === "pointerup" && this.travelled <= STILL_PX && !this.down.size) {
      this.current = this.nearest(this.point(event));
      emit(this, this.current < 0 ? "over" : "pick", this.current);
    }
  }

  /** @param {[number, number]} pixels */
  nearest(pixels) {
    return this.points?.nearest(...this.from(pixels), NEAR_PX / this.unit) ?? -1;
  }

  /** @param {[number, number]} pixels */
  hover(pixels) {
    const found = this.nearest(pixels);
    if (found === this.current) return;
    this.current = found;
    emit(this, "over", found);
  }

  // --- keys --------------------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.target !== this.stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    /** @type {Record<string, () => void>} */
    const keys = { "+": () => this.closer(STEP), "=": () => this.closer(STEP), "-": () => this.closer(1 / STEP), "−": () => this.closer(1 / STEP), 0: () => this.whole(), Enter: () => this.pick(), " ": () => this.pick(), l: () => emit(this, "alike") };
    if (arrow) event.shiftKey ? this.shift((arrow[0] * ARROW_PX) / this.unit, (arrow[1] * ARROW_PX) / this.unit) : this.step(arrow[0], arrow[1]);
    else if (event.key === "Escape" && this.drawing) this.draw_around(false);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  pick() {
    if (this.current >= 0) emit(this, "pick", this.current);
  }

  /** Go to the nearest point in a direction; to the one in the middle, if there is none yet. @param {number} right @param {number} up */
  step(right, up) {
    const { points } = this;
    if (!points) return;
    const next = this.current < 0 ? points.nearest(this.x, this.y, 2) : points.beside(this.current, right, up);
    if (next < 0) return;
    this.current = next;
    const [x, y] = points.at(next);
    const [left, top] = this.to(x, y);
    const { clientWidth: width, clientHeight: height } = this.stage;
    if (left < 0 || top < 0 || left > width || top > height) this.shift(x - this.x, y - this.y);
    emit(this, "over", next);
  }
}
