// @ts-check
/** The hits as rows: heard, looked at, and asked further with. */

import { at, clock, copy, emit, fetchPicture, icon, iconButton, inFolder, make, span, visible } from "./dom.js";
import { player } from "./sound.js";
import { audioOf, pictureOf } from "./server.js";

/**
 * @typedef {object} Hit as the server tells of it
 * @property {string} window
 * @property {number} score
 * @property {string | null} path null where its library is not known
 * @property {string | null} name
 * @property {number} start_s
 * @property {number} end_s
 * @property {{start_s: number, end_s: number, score: number} | null} match
 * @property {{id: string, name: string, probability: number}[]} tags
 * @property {string} recording
 * @property {boolean} is_there
 * @property {string | null} clock
 * @property {number} stands_for
 * @property {Record<string, any>} metadata
 */

/** Tags of a row. */
const ROW_TAGS = 4;
/** A match that covers more than this of its window is all of it. */
const WHOLE = 0.98;
/** Pixels below the window from which pictures are fetched. */
const AHEAD = "300px";

/** @type {Record<string, (one: Hit, other: Hit) => number>} */
const ORDERS = {
  score: () => 0,
  file: (one, other) => (one.path ?? "").localeCompare(other.path ?? "") || one.start_s - other.start_s,
  clock: (one, other) => (one.clock?.slice(11) ?? "~").localeCompare(other.clock?.slice(11) ?? "~"),
};

/** Where a hit fits best; null where that is all of it, or not known. @param {Hit} hit */
const matchOf = ({ match, start_s, end_s }) => (match && match.end_s - match.start_s < (end_s - start_s) * WHOLE ? match : null);

/** @param {Hit} hit */
const nameOf = (hit) => visible(hit.name ?? "a file whose place is not known");

/** Emits `alike` {hit}, `add` {hit, minus}, `tag` {name}, `select`, `current`, `rows`. */
class HitList extends HTMLElement {
  /** @type {Hit[]} in the order of the server */
  hits = [];
  /** @type {Hit[]} as they are sorted */
  ordered = [];
  /** @type {Map<string, any>} elements */
  rows = new Map();
  /** @type {Set<string>} */
  selected = new Set();
  /** Window of the current row. */
  current = "";
  /** Whether ranks mean something. */
  ranked = true;
  sort = "score";
  /** Why no hit can be an example of what not. */
  noMinus = "";

  connectedCallback() {
    this.list = make("ol.hits", { "aria-labelledby": "results-title" });
    this.append(this.list);
    this.seen = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && this.fetch(/** @type {HTMLImageElement} */ (entry.target))), { rootMargin: AHEAD });
    player.addEventListener("change", () => this.follow());
    player.addEventListener("time", () => this.run());
    player.addEventListener("failed", () => this.lose());
  }

  /** @param {Hit[]} hits @param {{ranked?: boolean, sort: string, noMinus?: string}} how */
  show(hits, { ranked = true, sort, noMinus = "" }) {
    if (player.key.startsWith("hit:")) player.stop();
    const focused = this.contains(document.activeElement);
    Object.assign(this, { hits, ranked, sort, noMinus, rows: new Map(), current: "" });
    this.selected.clear();
    this.arrange();
    emit(this, "select");
    if (focused) at("results").focus({ preventScroll: true });
  }

  /** @param {Hit[]} hits of the next page */
  extend(hits) {
    this.hits = [...this.hits, ...hits.filter((hit) => !this.rows.has(hit.window))];
    this.arrange();
  }

  /** @param {string} [sort] */
  arrange(sort = this.sort) {
    this.sort = sort;
    const sorted = [...this.hits].sort(ORDERS[sort] ?? ORDERS.score);
    this.ordered = sorted;
    for (const [index, hit] of this.hits.entries()) if (!this.rows.has(hit.window)) this.rows.set(hit.window, this.row(hit, index + 1));
    const focused = /** @type {HTMLElement | null} */ (document.activeElement);
    this.list.replaceChildren(...sorted.map((hit) => this.rows.get(hit.window)));
    // What is taken out of the page and put back loses the focus.
    if (this.list.contains(focused)) focused?.focus({ preventScroll: true });
    this.list.classList.toggle("almost", !this.ranked);
    emit(this, "rows");
  }

  /** @param {Hit} hit @param {number} rank */
  row(hit, rank) {
    const tell = (what, detail = {}) => emit(this, what, { hit, ...detail });
    const label = `${nameOf(hit)}, ${span(hit.start_s, hit.end_s)}`;
    const tick = make("input.tick", { type: "checkbox", "aria-label": `Select ${label}`, onchange: () => this.select(hit, tick.checked) });
    const actions = make("div.actions", {},
      make("button.button.alike", { title: "More like this (l)", "data-do": "alike", onclick: () => tell("alike") }, icon("alike"), make("span", {}, "More like this")),
      iconButton("plus", "Like this, too (+)", () => tell("add", { minus: false }), { "data-do": "plus" }),
      iconButton("minus", this.noMinus || "Not like this (m)", () => tell("add", { minus: true }), { "data-do": "minus", disabled: Boolean(this.noMinus) }),
      iconButton("copy", "Copy the path", () => copy(hit.path ?? "", "the path"), { "data-do": "copy", disabled: !hit.path }));
    const row = make(`li.hit${hit.is_there ? "" : ".lost"}`, { tabindex: "-1", "data-window": hit.window, "aria-label": `${this.ranked ? rank + ": " : ""}${label}`, onfocusin: () => this.choose(hit.window), onclick: () => this.choose(hit.window) },
      make("div.order", {}, tick, make("span.rank", {}, this.ranked ? rank : "")),
      hit.is_there ? this.playButton(hit) : make("span.round.lost-mark", { "aria-hidden": "true" }, icon("close")),
      this.thumb(hit), this.says(hit, tell), this.score(hit), actions);
    return row;
  }

  /** @param {Hit} hit */
  playButton(hit) {
    const button = iconButton("play", `Play ${nameOf(hit)} at ${clock(hit.start_s)}`, () => this.toggle(hit), { "data-do": "play" });
    button.classList.add("round");
    return button;
  }

  /** @param {Hit} hit */
  thumb(hit) {
    if (!hit.is_there) return make("div.thumb.lost-says", {}, "file not there");
    const length = hit.end_s - hit.start_s;
    const picture = make("img", { alt: "", width: 240, height: 48, fetchpriority: "low", "data-src": pictureOf({ kind: "w", id: hit.window }, { width: 240, height: 48 }) });
    this.seen?.observe(picture);
    const thumb = make("div.thumb", { onclick: (event) => {
      const box = thumb.getBoundingClientRect();
      this.play(hit, ((event.clientX - box.left) / box.width) * length);
    } }, picture);
    const match = matchOf(hit);
    if (match) {
      const [left, right] = [match.start_s, match.end_s].map((second) => ((second - hit.start_s) / length) * 100);
      thumb.append(make("span.match", { style: { left: `${left}%`, width: `${right - left}%` } }));
    }
    thumb.append(make("span.cursor", { hidden: true }));
    return thumb;
  }

  /** @param {HTMLImageElement} picture */
  fetch(picture) {
    this.seen?.unobserve(picture);
    fetchPicture(picture, picture.dataset.src ?? "");
  }

  /** @param {Hit} hit @param {(what: string, detail: object) => void} tell */
  says(hit, tell) {
    const path = visible(hit.path ?? "");
    const facts = [span(hit.start_s, hit.end_s)];
    const match = matchOf(hit);
    if (match) facts.push(`match at ${match.start_s.toFixed(1)}–${match.end_s.toFixed(1)} s`);
    if (hit.clock) facts.push(hit.clock.slice(0, 16).replace("T", " "));
    if (hit.stands_for > 1) facts.push(`and ${hit.stands_for - 1} like it`);
    for (const [name, value] of Object.entries(hit.metadata ?? {})) if (value !== null && value !== "") facts.push(visible(`${name} ${value}`));
    const tags = hit.tags.slice(0, ROW_TAGS).map((tag) => make("button.tag", { title: `Only where ${tag.name} is heard (here ${tag.probability.toFixed(2)})`, onclick: () => tell("tag", { name: tag.name }) }, tag.name, make("small", {}, tag.probability.toFixed(2))));
    return make("div.says", {}, make("p.name", { title: path }, inFolder(nameOf(hit), path)), make("p.facts.quiet", {}, facts.map((fact) => fact.replaceAll(" ", "\u00a0")).join(" · ")), make("p.tags", {}, tags));
  }

  /** @param {Hit} hit */
  score(hit) {
    return make("div.score", { title: `score ${hit.score.toFixed(4)}` }, make("span.number", {}, hit.score.toFixed(3)), make("span.bar", { "aria-hidden": "true" }, make("span", { style: { width: `${Math.max(0, Math.min(1, hit.score)) * 100}%` } })));
  }

  /** @param {Hit} hit @param {number} [at] seconds in the window; where the match is if it is known */
  play(hit, at = hit.match ? Math.max(0, hit.match.start_s - hit.start_s) : 0) {
    this.choose(hit.window);
    player.play(`hit:${hit.window}`, audioOf({ kind: "w", id: hit.window }), { at });
  }

  /** @param {Hit} hit */
  toggle(hit) {
    if (player.playing && player.key === `hit:${hit.window}`) player.stop();
    else this.play(hit);
  }

  /** @param {Hit} hit @param {boolean} on */
  select(hit, on) {
    if (on) this.selected.add(hit.window);
    else this.selected.delete(hit.window);
    const row = this.rows.get(hit.window);
    row?.classList.toggle("selected", on);
    const tick = row?.querySelector(".tick");
    if (tick) tick.checked = on;
    emit(this, "select");
  }

  /** @param {string} window */
  choose(window) {
    if (window === this.current) return;
    this.rows.get(this.current)?.removeAttribute("aria-current");
    this.current = window;
    this.rows.get(window)?.setAttribute("aria-current", "true");
    emit(this, "current");
  }

  /** @returns {Hit | undefined} */
  currentHit() {
    return this.hits.find((hit) => hit.window === this.current);
  }

  /** The next row, or the one before. @param {number} by @param {boolean} preview */
  move(by, preview) {
    const { ordered } = this;
    const now = ordered.findIndex((hit) => hit.window === this.current);
    const hit = ordered[now < 0 ? (by > 0 ? 0 : ordered.length - 1) : Math.max(0, Math.min(ordered.length - 1, now + by))];
    if (!hit) return;
    const row = this.rows.get(hit.window);
    row?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "nearest" });
    this.choose(hit.window);
    if (preview && hit.is_there) this.play(hit);
    else if (player.key.startsWith("hit:")) player.stop();
  }

  /** Mark the row that plays. */
  follow() {
    const window = player.playing ? player.key.replace(/^hit:/, "") : "";
    for (const [id, row] of this.rows) {
      const plays = id === window;
      if (row.classList.contains("plays") === plays) continue;
      row.classList.toggle("plays", plays);
      row.querySelector("[data-do=play]")?.replaceChildren(icon(plays ? "stop" : "play"));
      const cursor = row.querySelector(".cursor");
      if (cursor) cursor.hidden = !plays;
    }
  }

  /** Move the cursor of the row that plays. */
  run() {
    if (!player.key.startsWith("hit:")) return;
    const cursor = this.rows.get(player.key.slice(4))?.querySelector(".cursor");
    if (cursor && player.audio.duration) cursor.style.left = `${Math.min(100, (player.audio.currentTime / player.audio.duration) * 100)}%`;
  }

  /** A file that is gone, or a sound that cannot be played: say so in its row. */
  lose() {
    const { key, sentence, status } = player.failure;
    const row = this.rows.get(key.replace(/^hit:/, ""));
    if (!row) return;
    row.classList.add("lost");
    row.querySelector("[data-do=play]")?.replaceWith(make("span.round.lost-mark", { "aria-hidden": "true" }, icon("close")));
    row.querySelector(".thumb")?.replaceWith(make("div.thumb.lost-says", { role: "status", title: sentence }, status === 404 ? "file not there" : sentence));
  }
}

customElements.define("hit-list", HitList);
