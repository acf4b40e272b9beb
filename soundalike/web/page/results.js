// @ts-check
/** What stands around the hits: their scores beside those of random windows, why there are none, files of them. */

import { at, clean, colour, counted, make, on, visible } from "./dom.js";
import { shownName } from "./address.js";
import { ask, line, post } from "./server.js";
import { withoutTerm } from "./filters.js";

/** @typedef {import("./hits.js").Hit} Hit */
/** @typedef {import("./address.js").Question} Question */

/** Milliseconds after which waiting is said: what takes less would only flash. */
const SAY_AFTER_MS = 250;

const BINS = 60;
/** A hit above this share of random windows is more than chance. */
const RARE = 0.99;

/** A histogram of the scores of random windows, with the hits marked. */
class ScoreChart extends HTMLElement {
  /** @type {number[]} */
  random = [];
  /** @type {number[]} */
  scores = [];
  /** @type {number | null} */
  current = null;
  /** What a hit must score to be more than chance. */
  bound = 0;

  connectedCallback() {
    this.canvas = make("canvas", { role: "img" });
    this.caption = make("p.quiet", { id: "scores-caption" });
    this.append(this.canvas, this.caption);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    document.addEventListener("look", () => this.draw());
  }

  /** @param {number[] | undefined} random sorted @param {Hit[]} hits */
  show(random, hits) {
    this.hidden = !random?.length || !hits.length;
    if (this.hidden || !random) return;
    this.random = random;
    this.scores = hits.map((hit) => hit.score);
    this.bound = random[Math.min(random.length - 1, Math.floor(random.length * RARE))];
    const above = this.scores.filter((score) => score > this.bound).length;
    const of = `of the ${hits.length} hits`;
    const who = hits.length === 1 ? `The hit is${above ? "" : " not"}` : above === hits.length ? `All ${above} hits are` : above ? `${above} ${of} ${above === 1 ? "is" : "are"}` : `None ${of} is`;
    this.caption.textContent = `${who} clearly better than chance: above what ${RARE * 100} % of random windows score (${this.bound.toFixed(2)}).`;
    this.canvas.setAttribute("aria-label", `Scores: ${this.caption.textContent}`);
    this.draw();
  }

  /** @param {number | null} score of the current hit */
  point(score) {
    this.current = score;
    if (!this.hidden) this.draw();
  }

  draw() {
    if (this.hidden || !this.canvas.clientWidth) return;
    const { pen, width, height } = clean(this.canvas);
    const all = [this.random[0], this.random[this.random.length - 1], ...this.scores];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const room = (high - low || 1) * 0.02;
    const x = (score) => ((score - low + room) / (high - low + 2 * room || 1)) * width;
    const bins = new Array(BINS).fill(0);
    for (const score of this.random) bins[Math.min(BINS - 1, Math.floor((x(score) / width) * BINS))] += 1;
    const most = Math.max(...bins);
    const foot = height - 12;
    pen.fillStyle = colour("bars");
    bins.forEach((count, index) => pen.fillRect((index * width) / BINS, foot - (count / most) * (foot - 4), width / BINS - 1, (count / most) * (foot - 4)));
    pen.fillStyle = colour("line");
    pen.fillRect(0, foot, width, 1);
    pen.setLineDash([3, 3]);
    pen.strokeStyle = colour("quiet");
    pen.beginPath();
    pen.moveTo(x(this.bound), 0);
    pen.lineTo(x(this.bound), foot);
    pen.stroke();
    pen.fillStyle = colour("accent");
    for (const score of this.scores) pen.fillRect(x(score) - 0.75, foot + 2, 1.5, 9);
    if (this.current !== null) pen.fillRect(x(this.current) - 1.5, foot - 14, 3, 26);
  }
}

customElements.define("score-chart", ScoreChart);

/**
 * Why there are no hits, with the ways out.
 * @param {HTMLElement} place @param {any} answer @param {Question} question @param {(next: Question) => void} change
 */
export function sayNone(place, answer, question, change) {
  const removed = (answer.removed ?? []).map((/** @type {{term: string, num_windows: number}} */ one) => make("li", {},
    make("button.button", { "data-removed": one.term, onclick: () => change(withoutTerm(question, one.term)) }, "Drop ", make("strong", {}, one.term.replace(/^(any_|not_)?tags: (.*)/s, (_, kind, name) => (({ any_: "or ", not_: "without " })[/** @type {"any_" | "not_"} */ (kind)] ?? "") + shownName(name)))),
    ` leaves ${counted(one.num_windows, "window")}`));
  const almost = (answer.almost ?? []).length > 0;
  const helps = (answer.removed ?? []).some((/** @type {{num_windows: number}} */ one) => one.num_windows > 0);
  const reset = make("p", {}, make("button.button", { id: "drop-all", onclick: () => change({ ...question, tags: [], any: [], not: [], where: "" }) }, "Drop all of the filter"));
  const reason = removed.length ? "No window fits all of the filter. Drop a part of it:" : "Nothing found. Ask with another sound, or with a longer region of it.";
  place.replaceChildren(make("p", {}, make("strong", {}, reason)), removed.length ? make("ul", {}, removed) : "", removed.length && !helps ? reset : "", almost ? make("p.quiet", {}, "Closest by probability:") : "");
}

/** Say that something is being listened to, and for how long. @returns {() => void} */
export function sayListening() {
  const began = performance.now();
  const seconds = make("span", { "aria-hidden": "true" });
  const tell = () => { seconds.textContent = ` ${((performance.now() - began) / 1000).toFixed(1)} s`; };
  /** @type {any} */
  let ticking;
  const starting = setTimeout(() => {
    at("hits").classList.add("waiting");
    at("results").setAttribute("aria-busy", "true");
    at("count").replaceChildren("Listening…", seconds);
    ticking = setInterval(tell, 100);
  }, SAY_AFTER_MS);
  return () => {
    clearTimeout(starting);
    clearInterval(ticking);
    at("hits").classList.remove("waiting");
    at("results").removeAttribute("aria-busy");
  };
}

/** @param {string} sentence empty: none @param {...(Node | string)} more */
export function say(sentence, ...more) {
  at("state").hidden = !sentence && !more.length;
  at("state").replaceChildren(make("p", {}, ...textWithCode(sentence)), ...more);
}

/** Words between backquotes as code. @param {string} sentence */
const textWithCode = (sentence) => sentence.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

/** @param {any} found @param {Question} question @param {(next: Question) => void} change */
export function sayNotes(found, question, change) {
  const items = (/** @type {any[]} */ lines) => make("ul", {}, lines.map((one) => make("li", {}, one)));
  const [notes, explain] = [[...(found.notes ?? []).map(visible)], (found.explain ?? []).map(visible)];
  const offer = (what) => make("button.button.plain", { id: "show-self", onclick: () => change({ ...question, self: !question.self }) }, what);
  const { num_left_out: left, num_silent: silent } = found;
  if (left) notes.push([`${counted(left, "window")} of what asks ${left === 1 ? "is" : "are"} not among the hits · `, offer(`Show ${left === 1 ? "it" : "them"}`)]);
  else if (question.self && question.examples.length) notes.push(["What asks is among the hits · ", offer("Leave it out")]);
  if (silent) notes.push(`${counted(silent, "silent window")} ${silent === 1 ? "is" : "are"} not among the hits`);
  at("notes").hidden = !notes.length && !explain.length;
  at("notes").replaceChildren(notes.length ? items(notes) : "", explain.length ? make("details", {}, make("summary", {}, "How this was asked"), make("pre", { tabindex: "0" }, explain.join("\n"))) : "");
}

/**
 * One banner of each kind; none where there is nothing to say. The same sentence stays, so that it is read out once.
 * @param {string} kind @param {string} sentence @param {string} [left] what changes each second, for eyes only @param {() => void} [wake]
 */
export function banner(kind, sentence, left = "", wake) {
  const old = /** @type {HTMLElement | null} */ (document.querySelector(`[data-banner="${kind}"]`));
  if (!sentence) return old?.remove();
  if (old?.dataset.sentence !== sentence) {
    old?.remove();
    at("banners").append(make(`p.banner.${kind}`, { "data-banner": kind, "data-sentence": sentence }, make("span", {}, ...textWithCode(sentence)), make("span.left", { "aria-hidden": "true" }),
      wake ? make("button.button", { onclick: wake }, "Try now") : ""));
  }
  /** @type {any} */ (document.querySelector(`[data-banner="${kind}"] .left`)).textContent = left;
}

export const refuse = () => banner("token", "This page is not let in: open the address that `soundalike serve` printed, with its token.");

/** @param {number} parts */
export const sayNewParts = (parts) => banner("new", parts ? `${counted(parts, "new part")} of the store ${parts === 1 ? "is" : "are"} not searched yet: run \`soundalike build STORE\`.` : "");

/** @type {[import("./server.js").Waiter["kind"], string][]} */
const WAITS = [
  ["busy", "The server has its hands full. It is asked again by itself"],
  ["gone", "The server does not answer: is `soundalike serve` still running? It is tried again by itself"],
];

on(line, "change", () => {
  for (const [kind, sentence] of WAITS) {
    const waiters = () => [...line.waiters].filter((waiter) => waiter.kind === kind);
    const left = Math.min(...waiters().map((waiter) => waiter.left));
    banner(kind, waiters().length ? sentence : "", `in ${left} s`, () => waiters().forEach((waiter) => waiter.wake()));
  }
});

/** How much there is to find. @param {{name: string}[]} stores @param {number} [number] unknown without an index */
export function sayWindows(stores, number) {
  at("stores").textContent = (number === undefined ? "" : `${counted(number, "window")} of `) + stores.map((one) => visible(one.name)).join(", ");
}

/** @param {any} stores what the server has */
export function describeStores({ stores, has_index: isBuilt, num_windows: number = 0, num_new_parts: parts = 0, projections = [], metadata_columns: columns = [] }) {
  sayWindows(stores, isBuilt ? number : undefined);
  at("stores").title = stores.map((one) => visible(one.path)).join("\n");
  at("words-form").hidden = !projections.length;
  at("projection").hidden = projections.length < 2;
  at("projection").replaceChildren(...projections.map((name) => make("option", { value: name }, name)));
  at("where-columns").hidden = !columns.length;
  at("where-columns").textContent = `Columns of your own: ${columns.map(visible).join(", ")}.`;
  sayNewParts(parts);
  if (!isBuilt) banner("index", "The store has no index yet: run `soundalike build STORE`, then reload this page.");
}

/** The forms of files, as the server calls them. */
const FORMATS = [
  ["csv", "CSV", "a table"], ["json", "JSON", "all that is known of them"], ["m3u", "m3u", "a list to play"],
  ["audacity", "Audacity labels", "in their files"], ["raven", "Raven", "a selection table"], ["zip", "zip of the sounds", "each span as a file"],
];

/**
 * @param {() => {search: object, selected: string[], shown: Hit[], zipped: number}} what is exported, when the dialog opens; `zipped` at most as sounds
 */
export function offerExport(what) {
  const busy = (sentence) => {
    at("export-state").hidden = !sentence;
    at("export-state").textContent = sentence;
  };
  const save = async (format) => {
    const { search, selected, shown, zipped } = what();
    const windows = at("export-selected").checked ? selected : null;
    busy("Writing…");
    try {
      const answer = await post("/api/v1/export", { format, search, windows });
      download(await answer.blob(), nameIn(answer.headers.get("Content-Disposition")) ?? `hits.${format}`);
      const written = windows ? shown.filter((hit) => windows.includes(hit.window)) : shown.slice(0, zipped);
      const lost = format === "zip" ? written.filter((hit) => !hit.is_there).length : 0;
      busy(lost ? `Saved; ${lost} ${lost === 1 ? "is" : "are"} not there and ${lost === 1 ? "is" : "are"} named in not_read.txt.` : "Saved.");
    } catch (error) {
      busy(/** @type {Error} */ (error).message);
    }
  };
  at("formats").replaceChildren(...FORMATS.map(([format, name, says]) => make("button.format", { "data-format": format, onclick: () => save(format) }, make("strong", {}, name), make("small.quiet", {}, says))));
  on("open-export", "click", () => {
    const { selected, shown } = what();
    busy("");
    at("export-all-says").textContent = `all ${counted(shown.length, "hit")} that are shown`;
    at("export-selected-says").textContent = selected.length ? `the ${counted(selected.length, "selected hit")}` : "selected hits: tick some first";
    at("export-selected").disabled = !selected.length;
    at(selected.length ? "export-selected" : "export-all").checked = true;
    at("export-dialog").showModal();
  });
}

/** The name in a Content-Disposition header. @param {string | null} header */
function nameIn(header) {
  const encoded = /filename\*=(?:UTF-8|utf-8)''([^;]+)/.exec(header ?? "");
  if (encoded) return decodeURIComponent(encoded[1]);
  return /filename="?([^";]+)"?/.exec(header ?? "")?.[1];
}

/** @param {Blob} blob @param {string} name */
function download(blob, name) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** Which parts of the map are no longer kept. @param {string[]} names @returns {Promise<string[]>} */
export async function lostParts(names) {
  const lost = await Promise.all(names.map((name) => ask(`/api/v1/map/selections/${name}`).then(() => false, (error) => error.status === 404)));
  return names.filter((_, index) => lost[index]);
}

/** Which uploaded clips are no longer kept. @param {import("./address.js").Example[]} examples @returns {Promise<string[]>} ids */
export async function lostClips(examples) {
  const ids = examples.filter((example) => example.kind === "c").map((example) => example.id);
  const lost = await Promise.all(ids.map((id) => ask(`/api/v1/clips/${encodeURIComponent(id)}`).then(() => false, (error) => error.status === 404)));
  return ids.filter((_, index) => lost[index]);
}
