// @ts-check
/** The map: all windows as points, like by like. It is looked at, listened to, and a part of it becomes a filter. */

import { partsOf } from "./address.js";
import { at, clean, colour, counted, iconButton, inFolder, make, on, refill, span, visible } from "./dom.js";
import { withTag } from "./filters.js";
import { Points, bytesOf, kindColour, painted } from "./map_data.js";
import { View } from "./map_view.js";
import { ask, audioOf, json, post } from "./server.js";
import { player } from "./sound.js";

/** @typedef {import("./address.js").Question} Question */
/** @typedef {import("./map_data.js").Shades} Shades */
/** @typedef {{key: string, num_windows: number, is_outgrown: boolean, regions: import("./map_data.js").Region[]}} Drawn */
/** @typedef {{hits: any, tags: any, question: () => Question, go: (next: Question) => void, alike: (hit: any) => void}} Desk what the page has */

/** Milliseconds that one stays on a point before it is asked what it is, and before it plays. */
const ASK_MS = 120;
const PLAY_MS = 450;
/** After so many, waiting is said to be drawing. */
const DRAWS_MS = 1500;

/** @type {SoundMap | null} */
let map = null;

/** Open the map, or close it. @param {Desk} desk */
export async function toggle(desk) {
  const place = at("map");
  map ??= new SoundMap(place, desk);
  const opens = place.hidden;
  at("open-map").setAttribute("aria-expanded", String(opens));
  if (!opens) return map.close();
  await styled();
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" });
  await map.open();
}

/** @type {Promise<void> | undefined} */
let styles;

const styled = () => (styles ??= new Promise((done) => document.head.append(make("link", { rel: "stylesheet", href: "/page/map.css", onload: () => done(), onerror: () => done() }))));

class SoundMap {
  /** @type {Drawn | null} */
  drawn = null;
  /** @type {Points | null} */
  points = null;
  /** What it is coloured by: "region", "folder", "time", or "tag:" and its name. */
  by = "region";
  /** Which point is looked at; -1 for none. */
  current = -1;
  /** @type {Map<string, [number, number][]>} what was drawn around parts, by their names */
  outlines = new Map();
  /** Whether anything was played by a click: before that, nothing plays by itself. */
  sounds = false;
  /** @type {number[]} */
  timers = [];

  /** @param {HTMLElement} place @param {Desk} desk */
  constructor(place, desk) {
    this.place = place;
    this.desk = desk;
    this.says = make("p", { id: "map-count", role: "status" });
    this.colours = make("select", { id: "map-colours", onfocus: () => this.offerColours(), onchange: () => this.recolour(this.colours.value) });
    this.legend = make("div.map-legend", { id: "map-legend" });
    this.body = make("div", {});
    this.regions = make("ul.map-regions", { id: "map-regions" });
    this.fold = make("details.fold", { id: "map-fold" }, make("summary", {}, "Regions as a list"), this.regions);
    place.replaceChildren(
      make("div.map-head", {}, make("h2", {}, "Map"), this.says, make("label.choice", {}, "Colours", this.colours), iconButton("close", "Close the map", () => toggle(desk))),
      this.body, this.legend, this.fold);
    // What is found, and what is current of it, is marked.
    new MutationObserver(() => this.mark()).observe(desk.hits, { childList: true, subtree: true });
    on(desk.hits, "current", () => this.mark());
    on(document, "look", () => this.points && this.recolour(this.by));
  }

  close() {
    this.place.hidden = true;
    this.leave();
    at("open-map").focus();
  }

  async open() {
    if (this.drawn) return this.view?.resize();
    const wait = setTimeout(() => { this.says.textContent = "The map is being drawn; the first time that may take a minute…"; }, DRAWS_MS);
    this.says.textContent = "Reading the map…";
    try {
      this.drawn = /** @type {Drawn} */ (await json("/api/v1/map"));
      this.listRegions(this.drawn.regions);
      this.offerColours();
      const { num_windows: number, regions, is_outgrown: old } = this.drawn;
      this.view ??= this.look();
      if (this.view) {
        this.points = new Points(await (await ask(`/api/v1/map/points?key=${this.drawn.key}`)).arrayBuffer());
        this.view.show(this.points, this.drawn.regions);
        await this.recolour(this.by);
        this.mark();
      }
      this.says.textContent = `${counted(number, "window")} in ${counted(regions.length, "region")}${old ? "; the library has outgrown it: `soundalike map STORE --anew` draws another" : ""}`;
    } catch (error) {
      this.drawn = null;
      this.says.textContent = "";
      refill(this.body, make("p.map-says", { role: "alert" }, /** @type {Error} */ (error).message));
      this.view = undefined;
    } finally {
      clearTimeout(wait);
    }
  }

  /** The canvas, or why there is none. @returns {View | undefined} */
  look() {
    const canvas = make("canvas", { "aria-hidden": "true" });
    const gl = canvas.getContext("webgl2", { antialias: false, powerPreference: "low-power" });
    this.legend.hidden = this.colours.parentElement.hidden = !gl;
    if (!gl) {
      refill(this.body, make("p.map-says", { id: "map-none" }, "This browser has no WebGL2, which draws the map: its regions are in the list below."));
      this.fold.open = true;
      return undefined;
    }
    this.card = make("div.map-card", { id: "map-card", role: "status", hidden: true, onpointerdown: (event) => event.stopPropagation() });
    const view = new View(canvas, gl);
    view.stage.append(this.card);
    on(view, "over", ({ detail }) => this.look_at(detail, false));
    on(view, "pick", ({ detail }) => { this.look_at(detail, true); this.play(detail); });
    on(view, "alike", () => this.current >= 0 && this.points && this.desk.alike({ window: String(this.points.ids[this.current]) }));
    on(view, "leave", () => this.leave());
    on(view, "lasso", ({ detail }) => this.select({ polygon: detail }));
    on(view, "overlay", ({ detail }) => this.draw(detail));
    refill(this.body, view.stage);
    view.resize();
    return view;
  }

  // --- colours -----------------------------------------------------------------------------------

  offerColours() {
    const option = (value, says) => make("option", { value }, says);
    const tags = this.desk.tags.all.filter((tag) => tag.count > 0).sort((one, other) => Number(other.name.startsWith("my.")) - Number(one.name.startsWith("my.")) || other.count - one.count);
    const names = [...new Set([...(this.by.startsWith("tag:") ? [this.by.slice(4)] : []), ...tags.map((tag) => tag.name)])];
    this.colours.replaceChildren(option("region", "by region"), option("folder", "by folder"), option("time", "by time"), make("optgroup", { label: "by a tag" }, names.map((name) => option(`tag:${name}`, name))));
    this.colours.value = this.by;
  }

  /** @param {string} by */
  async recolour(by) {
    if (!this.points || !this.drawn || !this.view) return;
    this.by = by;
    try {
      const shades = await this.shadesOf(by);
      if (by !== this.by) return;
      const alpha = this.points.count > 20_000 ? 0.6 : 0.85;
      this.view.paint(painted(shades, alpha));
      this.explain(shades);
    } catch (error) {
      await this.fail(/** @type {any} */ (error));
    }
  }

  /** @param {string} by @returns {Promise<Shades>} */
  async shadesOf(by) {
    if (by === "region") return { kind: "region", values: /** @type {Points} */ (this.points).regions, names: [] };
    const [kind, tag] = by.startsWith("tag:") ? ["tag", by.slice(4)] : [by, ""];
    const asked = new URLSearchParams({ key: this.drawn?.key ?? "", by: kind, ...(tag ? { tag } : {}) });
    const found = await json(`/api/v1/map/colours?${asked}`);
    return { ...found, values: bytesOf(found.values) };
  }

  /** What colours mean. @param {Shades} shades */
  explain(shades) {
    const { kind, names } = shades;
    if (kind === "region") return this.legend.replaceChildren(make("span", {}, "A colour is a region; their names are those of tags that are heard there more often than elsewhere."));
    if (kind === "folder") {
      return this.legend.replaceChildren(...names.map((name, number) => make("span", {}, make("i", { style: { background: name === "others" ? colour("quiet") : `rgb(${kindColour(number).join(" ")})` } }), visible(name))));
    }
    const scale = make("canvas", { "aria-hidden": "true" });
    const [first, last] = kind === "tag" ? [`${this.by.slice(4)}: not heard`, "surely heard"] : names;
    this.legend.replaceChildren(make("span", {}, first, scale, last), kind === "clock" ? make("span", {}, "grey: no clock") : "");
    const { pen, width, height } = clean(scale);
    const line = painted({ kind, names, values: Uint8Array.from({ length: 255 }, (_, value) => value) }, 1);
    for (let value = 0; value < 255; value += 1) {
      pen.fillStyle = `rgb(${line[4 * value]} ${line[4 * value + 1]} ${line[4 * value + 2]} / ${line[4 * value + 3] / 255})`;
      pen.fillRect((value * width) / 255, 0, width / 255 + 1, height);
    }
  }

  // --- a point -----------------------------------------------------------------------------------

  /** @param {number} index of a point, or -1 @param {boolean} now without waiting */
  look_at(index, now) {
    if (index === this.current && !now) return;
    this.timers.forEach(clearTimeout);
    this.current = index;
    this.view?.overlay();
    if (index < 0) { this.card.hidden = true; return; }
    this.timers = [setTimeout(() => this.tell(index), now ? 0 : ASK_MS)];
    if (this.sounds && at("preview").checked && !now) this.timers.push(setTimeout(() => this.play(index), PLAY_MS));
  }

  /** What a point is. @param {number} index */
  async tell(index) {
    const id = String(this.points?.ids[index]);
    const hit = await json(`/api/v1/windows/${id}`).catch((error) => ({ error }));
    if (index !== this.current || !this.card) return;
    this.card.hidden = false;
    if (hit.error) return this.card.replaceChildren(hit.error.message);
    const name = visible(hit.name ?? "a file whose place is not known");
    const tags = hit.tags.slice(0, 4).map((tag) => `${tag.name} ${tag.probability.toFixed(2)}`).join(" · ");
    const when = [span(hit.start_s, hit.end_s), ...(hit.clock ? [hit.clock.slice(0, 16).replace("T", " ")] : []), ...(hit.is_there ? [] : ["file not there"])];
    this.card.replaceChildren(make("p.name", { title: visible(hit.path ?? "") }, inFolder(name, visible(hit.path ?? ""))), make("p.quiet", {}, when.join(" · ")), make("p", {}, tags));
  }

  /** @param {number} index */
  play(index) {
    if (index < 0 || !this.points) return;
    this.sounds = true;
    const id = String(this.points.ids[index]);
    player.toggle(`hit:${id}`, audioOf({ kind: "w", id }));
  }

  leave() {
    this.look_at(-1, true);
    if (this.sounds && player.key.startsWith("hit:") && !this.desk.hits.contains(document.activeElement)) player.stop();
  }

  // --- parts -------------------------------------------------------------------------------------

  /** @param {import("./map_data.js").Region[]} regions */
  listRegions(regions) {
    const most = Math.max(...regions.map((one) => one.num_windows));
    const order = regions.map((_, number) => number).sort((one, other) => regions[other].num_windows - regions[one].num_windows);
    refill(this.regions, ...order.map((number) => {
      const { name, num_windows: count } = regions[number];
      return make("li", {}, make("button.facet-name", { style: { width: "100%" }, title: `Only this region: ${name}`, "data-region": number, onclick: () => this.select({ region: number }) },
        make("span.bar", { style: { width: `${(count / most) * 100}%` } }), make("span.label", {}, name), make("span.number", {}, count.toLocaleString("en"))));
    }));
  }

  /** Make a part a filter, in the place of the one before. @param {{polygon?: [number, number][], region?: number}} part */
  async select(part) {
    try {
      const { name, num_windows: number } = await (await post("/api/v1/map/selections", { key: this.drawn?.key, ...part })).json();
      if (!number) { this.says.textContent = "No window lies there."; return; }
      if (part.polygon) this.outlines.set(name, part.polygon);
      const question = this.desk.question();
      const without = partsOf(question).reduce((next, one) => withTag(next, one, null), question);
      this.desk.go(withTag(without, name, "tags"));
      this.says.textContent = `${counted(number, "window")} marked: the hits are among them.`;
    } catch (error) {
      await this.fail(/** @type {any} */ (error));
    }
  }

  /** A map that has changed is read again; anything else is said. @param {any} error */
  async fail(error) {
    this.says.textContent = error.message;
    if (error.status !== 404) return;
    this.drawn = null;
    await this.open();
  }

  /** See what is found, and draw it. */
  mark() {
    this.view?.overlay();
  }

  /** @param {{pen: CanvasRenderingContext2D, to: (x: number, y: number) => [number, number]}} overlay */
  draw({ pen, to }) {
    const { points, desk } = this;
    if (!points) return;
    const [accent, text, card] = ["accent", "text", "card"].map(colour);
    pen.strokeStyle = accent;
    pen.lineWidth = 2;
    for (const name of partsOf(desk.question())) {
      const outline = this.outlines.get(name);
      if (!outline) continue;
      pen.beginPath();
      outline.forEach(([x, y]) => pen.lineTo(...to(x, y)));
      pen.closePath();
      pen.stroke();
    }
    const ring = (index, radius, inner, outer) => {
      if (index < 0) return;
      const [x, y] = to(...points.at(index));
      for (const [width, ink] of [[4, outer], [2, inner]]) {
        pen.beginPath();
        pen.lineWidth = width;
        pen.strokeStyle = ink;
        pen.arc(x, y, radius, 0, 2 * Math.PI);
        pen.stroke();
      }
    };
    const found = desk.hits.ranked ? desk.hits.hits : [];
    const indices = found.map((hit) => points.find(hit.window));
    this.body.dataset.marked = String(indices.filter((index) => index >= 0).length);
    for (const index of indices) ring(index, 6, text, card);
    if (desk.hits.current) ring(points.find(desk.hits.current), 9, accent, card);
    ring(this.current, 8, accent, card);
  }
}
