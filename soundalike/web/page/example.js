// @ts-check
/** One example: its waveform over its spectrogram, and the region that is asked with. */

import { clean, clock, colour, counted, emit, fetchPicture, icon, iconButton, inFolder, make } from "./dom.js";
import { player } from "./sound.js";
import { audioOf, pictureOf } from "./server.js";

/** @typedef {import("./address.js").Example} Example */
/** @typedef {import("./server.js").About} About */

/** The shortest region, in seconds: a tenth of what the network hears at once. */
const LEAST_S = 0.1;
/** What is asked with at first where a clip is longer than MOST_AT_FIRST_S, in seconds. */
export const FIRST_S = 10;
const MOST_AT_FIRST_S = 30;
/** Pixels within which a press is a click. */
const CLICK_PX = 3;
/** Milliseconds after the last key until it is searched. */
const KEYS_REST_MS = 500;

/** Seconds between times under the stage, and the least pixels. */
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const TICK_PX = 64;

/** @param {number} value @param {number} low @param {number} high */
const within = (value, low, high) => Math.max(low, Math.min(high, value));

/** Milliseconds are what the address keeps: asked with more, a reload would ask something else. @param {number} seconds */
const milli = (seconds) => Math.round(seconds * 1000) / 1000;

/** The region that an example begins with: undefined is all of it. @param {number} duration @param {number} limit both in seconds */
export const firstRegion = (duration, limit) => (duration <= Math.min(limit, MOST_AT_FIRST_S) ? {} : { start: 0, end: Math.min(FIRST_S, limit) });

/** Emits `region` with {start, end} in seconds when it has been changed. */
class SoundExample extends HTMLElement {
  start = 0;
  end = 0;
  /** What is shown, in seconds. */
  view = [0, 1];
  /** The longest region that may be asked with, in seconds. */
  limit = Infinity;
  /** Whether more was drawn than that. */
  capped = false;
  /** @type {any} an Example, once it is shown */
  example = null;
  /** @type {any} its About */
  about = null;
  key = "";
  /** @type {HTMLElement[]} what is left and right of the region */
  shades = [];
  /** @type {number | undefined} */
  resting;

  connectedCallback() {
    this.canvas = make("canvas.wave", { "aria-hidden": "true" });
    this.picture = make("img.spectrogram", { alt: "", draggable: "false" });
    this.cursor = make("div.cursor", { hidden: true });
    this.shades = [make("div.shade"), make("div.shade")];
    const slider = (part, label) =>
      make(`div.${part}`, { role: "slider", tabindex: "0", "aria-label": label, "aria-orientation": "horizontal", "data-part": part, onkeydown: (event) => this.press(event, part) });
    this.body = slider("body", "Region: arrows move it, shift and arrows change its end");
    this.first = slider("first", "Where the region begins");
    this.last = slider("last", "Where the region ends");
    this.stage = make("div.stage", { onpointerdown: (event) => this.grab(event) }, this.canvas, this.picture, ...this.shades, this.body, this.first, this.last, this.cursor);
    this.button = iconButton("play", "Play the region", () => this.toggle(), { id: "example-play" });
    this.button.classList.add("round");
    this.heading = make("h3.name", { id: "example-name" });
    this.says = make("p.says.quiet", { id: "example-region" });
    this.wholeButton = make("button.button.plain", { id: "example-whole", onclick: () => this.takeAll() }, icon("whole"), "All of it");
    this.zoomButton = make("button.button.plain", { id: "example-zoom", "aria-pressed": "false", onclick: () => this.zoom() }, icon("zoom"), "Zoom");
    this.tags = make("p.tags", { id: "example-tags" });
    this.warnings = make("p.state", { hidden: true });
    this.ticks = make("div.ticks", { "aria-hidden": "true" });
    this.append(make("div.line", {}, this.button, make("div.grow", {}, this.heading, this.says), this.tags, this.zoomButton, this.wholeButton), this.stage, this.ticks, this.warnings);
    new ResizeObserver(() => this.draw()).observe(this.stage);
    document.addEventListener("look", () => this.draw());
    player.addEventListener("change", () => this.follow());
    player.addEventListener("time", () => this.follow());
  }

  /** @param {Example} example @param {About} about @param {string} key under which it plays @param {number} limit in seconds */
  show(example, about, key, limit) {
    const other = this.about !== about;
    Object.assign(this, { example, about, key, limit });
    this.hidden = false;
    this.start = within(example.start ?? 0, 0, about.duration);
    this.end = within(example.end ?? about.duration, this.start, about.duration);
    this.heading.replaceChildren(...inFolder(about.name, about.path));
    this.heading.title = about.path || about.name;
    this.tagsSay = make("small.quiet", {});
    this.tags.replaceChildren(about.tags.length ? this.tagsSay : "", ...about.tags.slice(0, 3).map((tag) => make("span.tag", {}, tag.name, make("small", {}, tag.probability.toFixed(2)))));
    this.warnings.hidden = about.there && !about.warnings.length;
    this.warnings.textContent = about.there ? about.warnings.join(" ") : "The file is not there any more: it is asked with as it was, but cannot be heard or cut.";
    this.classList.toggle("lost", !about.there);
    this.button.disabled = !about.there;
    this.classList.toggle("minus", example.minus);
    this.zoomButton.hidden = example.kind === "w" || about.duration <= MOST_AT_FIRST_S;
    this.capped &&= !other;
    if (other) this.look(0, about.duration);
    this.place();
  }

  /** Show these seconds. @param {number} from @param {number} to */
  look(from, to) {
    const { about } = this;
    this.view = [from, to];
    const whole = from === 0 && to === about.duration;
    this.zoomButton.setAttribute("aria-pressed", String(!whole));
    this.picture.hidden = !about.there;
    if (about.there) fetchPicture(this.picture, pictureOf(this.example, { width: 1000, height: 96, ...(whole ? {} : { start_s: from, end_s: to }) }));
    this.draw();
    this.place();
  }

  /** Times under the stage, as many as there is room for, at steps that clocks have. @param {number} width in pixels */
  drawTicks(width) {
    const [from, to] = this.view;
    const step = STEPS_S.find((one) => ((to - from) / one) * TICK_PX <= width) ?? STEPS_S[STEPS_S.length - 1];
    const first = Math.ceil(from / step - 1e-9);
    const count = Math.floor(to / step + 1e-9) - first + 1;
    const seconds = Array.from({ length: count }, (_, index) => (first + index) * step).filter((second) => this.percent(second) < 99);
    this.ticks.replaceChildren(...seconds.map((second) => make("span", { style: { left: `${this.percent(second)}%` } }, to < 10 ? `${Number(second.toFixed(1))} s` : clock(second))));
  }

  zoom() {
    const { about } = this;
    const around = this.end - this.start;
    if (this.zoomButton.getAttribute("aria-pressed") === "true") this.look(0, about.duration);
    else this.look(Math.max(0, this.start - around), Math.min(about.duration, this.end + around));
  }

  draw() {
    if (!this.about || !this.canvas.clientWidth) return;
    const { pen, width, height } = clean(this.canvas);
    this.drawTicks(width);
    const { peaks, duration } = this.about;
    const [from, to] = this.view.map((second) => (second / duration) * peaks.length);
    const loudest = Math.max(0.05, ...peaks.map(([least, greatest]) => Math.max(-least, greatest)));
    pen.fillStyle = colour(this.example?.minus ? "minus" : "accent");
    for (let x = 0; x < width; x += 1) {
      const first = Math.floor(from + ((to - from) * x) / width);
      const group = peaks.slice(first, Math.max(first + 1, Math.floor(from + ((to - from) * (x + 1)) / width)));
      if (!group.length) continue;
      const high = Math.max(...group.map((pair) => pair[1])) / loudest;
      const low = Math.min(...group.map((pair) => pair[0])) / loudest;
      const top = (1 - high * 0.94) * (height / 2);
      pen.fillRect(x, top, 1, Math.max(1, (1 - low * 0.94) * (height / 2) - top));
    }
  }

  /** Where a second is shown, in percent. @param {number} second */
  percent(second) {
    return within(((second - this.view[0]) / (this.view[1] - this.view[0])) * 100, 0, 100);
  }

  /** Put the region's parts where they belong, and say so. */
  place() {
    const { about } = this;
    const [left, right] = [this.percent(this.start), this.percent(this.end)];
    Object.assign(this.shades[0].style, { left: "0", width: `${left}%` });
    Object.assign(this.shades[1].style, { left: `${right}%`, width: `${100 - right}%` });
    Object.assign(this.body.style, { left: `${left}%`, width: `${right - left}%` });
    this.first.style.left = `${left}%`;
    this.last.style.left = `${right}%`;
    const tell = (element, now, text) => {
      for (const [name, value] of [["valuemin", 0], ["valuemax", about.duration.toFixed(2)], ["valuenow", now.toFixed(2)], ["valuetext", text]]) element.setAttribute(`aria-${name}`, String(value));
    };
    const length = this.end - this.start;
    tell(this.body, this.start, `from ${this.start.toFixed(1)} to ${this.end.toFixed(1)} seconds`);
    tell(this.first, this.start, `begins at ${this.start.toFixed(1)} seconds`);
    tell(this.last, this.end, `ends at ${this.end.toFixed(1)} seconds`);
    const all = this.isWhole();
    // Tags are of all of it, or of the beginning of what is long: of another part they would tell something wrong.
    const isLong = about.duration > MOST_AT_FIRST_S;
    this.tags.hidden = this.start > 0.005 || Math.abs(this.end - (isLong ? FIRST_S : about.duration)) > 0.005;
    this.tagsSay.textContent = isLong ? `in these ${FIRST_S} s:` : "in all of it:";
    const inFile = about.offset ? `, in its file from ${clock(about.offset + this.start)}` : "";
    const capped = this.capped && length > this.limit - 0.01 ? `At most ${this.limit % 60 ? `${this.limit} s` : counted(this.limit / 60, "minute")} ask at once: ` : "";
    this.says.textContent = capped + (all ? `all of it: ${clock(about.duration)}${inFile}` : `${clock(this.start)}–${clock(this.end)}: ${length.toFixed(1)} s of ${clock(about.duration)}${inFile}`);
    this.wholeButton.hidden = all || about.duration > this.limit;
  }

  takeAll() {
    const { duration } = this.about;
    this.look(0, duration);
    this.change(0, duration, true);
  }

  isWhole() {
    return this.start <= 0.005 && this.end >= (this.about?.duration ?? 0) - 0.005;
  }

  /** @param {number} start @param {number} end in seconds @param {boolean} done whether to search with it */
  change(start, end, done) {
    const { duration, there } = this.about;
    if (!there) return;
    if (start !== this.start || end !== this.end) this.capped = end - start > this.limit + 0.01;
    this.start = milli(within(start, 0, Math.max(0, duration - LEAST_S)));
    this.end = milli(within(end, this.start + Math.min(LEAST_S, duration), Math.min(duration, this.start + this.limit)));
    this.place();
    if (done) emit(this, "region", this.isWhole() ? {} : { start: this.start, end: this.end });
  }

  /** A press on the stage: on an end it changes that, within the region it moves all, elsewhere it draws a new one. @param {PointerEvent} event */
  grab(event) {
    if (event.button || !this.about?.there) return;
    const box = this.stage.getBoundingClientRect();
    const second = (move) => within(this.view[0] + ((move.clientX - box.left) / box.width) * (this.view[1] - this.view[0]), this.view[0], this.view[1]);
    const part = /** @type {HTMLElement} */ (event.target).dataset.part ?? "";
    const [from, start, end] = [second(event), this.start, this.end];
    const draws = part === "" || (part === "body" && this.isWhole());
    let moved = false;
    this.stage.setPointerCapture(event.pointerId);
    const move = (event_) => {
      moved ||= Math.abs(event_.clientX - event.clientX) > CLICK_PX;
      if (!moved) return;
      const now = second(event_);
      if (part === "first") this.change(Math.min(now, end - LEAST_S), end, false);
      else if (part === "last") this.change(start, now, false);
      else if (draws) this.change(Math.min(from, now), Math.max(from, now), false);
      else this.shift(start, end, now - from, false);
    };
    const drop = () => {
      this.stage.removeEventListener("pointermove", move);
      if (moved) this.change(this.start, this.end, true);
      else if (part === "body") this.play(from);
      else if (part === "") this.shift(start, end, from - (start + end) / 2, true);
    };
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", drop, { once: true });
    this.stage.addEventListener("pointercancel", drop, { once: true });
  }

  /** Move the region as it is. @param {number} start @param {number} end @param {number} by in seconds @param {boolean} done */
  shift(start, end, by, done) {
    const possible = within(by, -start, (this.about?.duration ?? 0) - end);
    this.change(start + possible, end + possible, done);
  }

  /** @param {KeyboardEvent} event @param {string} part */
  press(event, part) {
    if (event.key === " ") {
      event.preventDefault();
      event.stopPropagation();
      return this.toggle();
    }
    const steps = /** @type {Record<string, number>} */ ({ ArrowLeft: -0.1, ArrowDown: -0.1, ArrowRight: 0.1, ArrowUp: 0.1, PageDown: -1, PageUp: 1, Home: -1e9, End: 1e9 });
    const by = steps[event.key];
    if (by === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const { start, end } = this;
    if (part === "first") this.change(within(start + by, 0, end - LEAST_S), end, false);
    else if (part === "last" || event.shiftKey) this.change(start, end + by, false);
    else this.shift(start, end, by, false);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.change(this.start, this.end, true), KEYS_REST_MS);
  }

  /** @param {number} [at] seconds in the example */
  play(at) {
    if (!this.example || !this.about?.there) return;
    const part = this.isWhole() ? [] : [this.start, this.end];
    player.play(this.key, audioOf(this.example, ...part), { from: this.start, at: at ?? this.start });
  }

  toggle() {
    if (player.key === this.key && player.playing) player.stop();
    else this.play();
  }

  follow() {
    const mine = Boolean(this.about) && player.key === this.key && player.playing;
    this.cursor.hidden = !mine;
    if (mine) this.cursor.style.left = `${this.percent(player.time)}%`;
    if (this.button.dataset.plays === String(mine)) return;
    this.button.dataset.plays = String(mine);
    this.button.replaceChildren(icon(mine ? "stop" : "play"));
    this.button.setAttribute("aria-label", mine ? "Stop" : "Play the region");
  }
}

customElements.define("sound-example", SoundExample);
