// @ts-check
/** The bar for teaching, loaded when it is opened: labels of windows, and the tag that is learned from them. */

import { nothing } from "./address.js";
import { at, counted, icon, iconButton, make, on, visible } from "./dom.js";
import { types, wants } from "./keys.js";
import { player } from "./sound.js";
import { json, post, postAtLast } from "./server.js";
import { makeCurve } from "./curve.js";
import { makeReview } from "./review.js";

/** @typedef {import("./hits.js").Hit} Hit */
/** @typedef {import("./address.js").Question} Question */
/** @typedef {"yes" | "no" | "unsure"} Says */
/** @typedef {{says: Says, id: string}} Word the last word on a window; its id is empty until the server has it */
/** @typedef {{yes: number, no: number, unsure: number}} Counts */

/** Below so many yes only the difference of means is learned: until then one asks for it. */
const LEAST_YES = 5;
/** Where two lessons in a row took longer, in milliseconds, they are not repeated after each label: in a large store one asks for them. (The first of a server loads what it learns with.) */
const QUICK_MS = 2000;
/** @type {Record<string, Says>} */
const KEYS = { y: "yes", n: "no", u: "unsure" };
const NAME = /^[a-z][a-z0-9_]{0,63}$/;

/** @param {string} name */
const under = (name) => `/api/v1/taught/${name}`;

/** @param {Counts} counts */
const inWords = ({ yes, no, unsure }) => `${yes.toLocaleString("en")} yes, ${no.toLocaleString("en")} no${unsure ? `, ${unsure.toLocaleString("en")} unsure` : ""}`;

/**
 * Three buttons that say whether a sound is there; the pressed one, pressed again, takes its word back.
 * @param {string} name @param {string} where of whom they speak @param {(says: Says) => void} press
 */
function makeVerdict(name, where, press) {
  return make("div.verdict", { role: "group", "aria-label": `${name} in ${where}?`, "data-name": name },
    Object.entries(KEYS).map(([key, says]) => make("button", { "data-says": says, "aria-pressed": "false", title: `${says} (${key})`, onclick: () => press(says) }, says)));
}

/** @param {Element} verdict @param {Word | undefined} word */
const mark = (verdict, word) => verdict.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.says === word?.says)));

/** The bar, and what is known of the name that is taught. */
class Teach {
  name = "";
  /** @type {Map<string, Word>} by window */
  said = new Map();
  learned = false;
  /** Whether it is known what was said and learned of the name. */
  ready = false;
  learning = false;
  /** Whether labels came while it learned. */
  again = false;
  /** How many lessons in a row took long. */
  slow = 0;
  /** @type {{id: string, hit: Hit | null}[]} the words of this page, which undo takes back, the newest last */
  mine = [];
  /** How many words the server has refused. */
  notKept = 0;
  /** Words on their way: they are said one after the other, as they were meant. */
  line = Promise.resolve();
  onTheWay = 0;
  /** Why they wait, if they do. */
  waitsFor = "";

  /** @param {any} hits @param {{go: (next: Question, how?: object) => void, asked: () => Question, recount: () => void}} page */
  constructor(hits, page) {
    this.hits = hits;
    this.page = page;
    this.bar = at("teach");
    this.says = make("p.teach-says", { id: "teach-says", role: "status" });
    this.lesson = make("p.quiet", { id: "teach-lesson" });
    this.count = make("span", { id: "teach-count" });
    this.names = make("datalist", { id: "teach-names" });
    this.box = make("input", { id: "teach-name", list: "teach-names", placeholder: "rattle", autocomplete: "off", autocapitalize: "off", spellcheck: "false", size: 14, required: true });
    this.form = make("form.line", { onsubmit: (event) => { event.preventDefault(); this.begin(this.box.value); } },
      make("label", { for: "teach-name" }, "Teach your own tag"), this.box, this.names, make("button.button", { id: "teach-begin", type: "submit" }, "Begin"));
    const button = (id, label, act, more = {}) => make("button.button", { id, onclick: act, ...more }, label);
    this.undoButton = button("teach-undo", "Undo", () => this.undo(), { title: "Take your last word back (Ctrl+Z)" });
    this.learnButton = button("teach-learn", "Learn", () => this.learn(true));
    this.findButton = button("teach-find", "Show what it finds", () => this.find());
    this.reviewButton = button("teach-review", "Review", () => this.toggleReview(), { "aria-expanded": "false", "aria-controls": "review" });
    this.table = make("a.button.plain", { id: "teach-table", download: "" }, icon("down"), "Labels");
    this.title = make("strong", { id: "teach-title" });
    this.tools = make("div.teach-tools", {}, this.title, this.count, this.undoButton, this.learnButton, this.findButton, this.reviewButton, this.table, button("teach-change", "Another name", () => this.choose(""), { class: "button plain" }));
    this.curve = makeCurve(() => this.reviewBy("random"));
    this.review = makeReview({ label: (hit, says, via) => this.label(hit, says, via), verdict: makeVerdict, said: (window) => this.said.get(window), by: (by) => this.reviewBy(by) });
    this.bar.replaceChildren(make("div.teach-head", {}, this.form, this.tools, iconButton("close", "Close the bar for teaching", () => this.toggle(), { id: "teach-close" })), this.says, this.lesson, this.review.place, this.curve.place);
    this.bar.setAttribute("role", "region");
    this.bar.setAttribute("aria-label", "Teach");
    this.paint();
    on(hits, "rows", () => this.decorate());
    on(player, "failed", () => { if (player.failure.key.startsWith("review:")) this.say(player.failure.sentence); });
    document.addEventListener("keydown", (event) => this.press(event), true);
    // Another page may have labelled meanwhile.
    on(window, "focus", () => { if (this.name) this.read(this.name).catch((error) => this.waitsFor || this.say(error.message)); });
    on(window, "beforeunload", (event) => { if (this.onTheWay) event.preventDefault(); });
  }

  /** @returns {Counts} of windows, by what is said of them */
  get counts() {
    const counts = { yes: 0, no: 0, unsure: 0 };
    for (const { says } of this.said.values()) counts[says] += 1;
    return counts;
  }

  /** @param {string} sentence */
  say(sentence) {
    this.says.textContent = sentence;
  }

  toggle() {
    const opens = this.bar.hidden;
    this.open(opens);
    if (!opens && this.name) this.page.go({ ...this.page.asked(), teach: "", review: "" }, { push: false, search: false });
    (opens ? this.box : at("open-teach")).focus();
  }

  /** @param {boolean} opens */
  open(opens) {
    this.bar.hidden = !opens;
    at("open-teach").setAttribute("aria-expanded", String(opens));
    if (opens && !this.name) this.list().catch((error) => this.say(error.message));
  }

  /** The names there are, to choose from. */
  async list() {
    const { names } = await json("/api/v1/taught");
    this.names.replaceChildren(...names.map((one) => make("option", { value: one.name }, `${one.trouble ? "damaged" : inWords(one.counts)}${one.is_learned ? "; learned" : ""}`)));
    const damaged = names.find((one) => one.trouble);
    if (damaged && !this.name) this.say(`my.${damaged.name}: ${visible(damaged.trouble)}`);
    this.learned = names.some((one) => one.name === this.name && one.is_learned);
  }

  /** Teach what somebody has typed, with `my.` before it or without; a name that is none is told, and none is made of it. @param {string} text */
  begin(text) {
    const name = text.trim().replace(/^my\./i, "");
    if (!NAME.test(name)) return this.say(`A tag of your own is called by a small letter, and then small letters, digits and _, 64 at most; got “${visible(name.slice(0, 80))}”.`);
    this.choose(name);
  }

  /** @param {string} name empty: none */
  choose(name) {
    if (!name) this.open(true);
    this.page.go({ ...this.page.asked(), teach: name, review: "" }, { push: false, search: false });
    if (!name) this.box.focus();
  }

  /** Show what the question has; called whenever it changes. */
  show() {
    const { teach } = this.page.asked();
    const name = NAME.test(teach) ? teach : "";
    if (name !== this.name) this.take(name);
    else if (this.ready) this.showReview();
  }

  /** While nothing was learned, no order but chance is known. */
  showReview() {
    const { review } = this.page.asked();
    this.review.show(this.name, review && !this.learned ? "random" : review);
  }

  /** @param {string} name */
  async take(name) {
    Object.assign(this, { name, said: new Map(), learned: false, ready: false, mine: [], slow: 0, notKept: 0 });
    this.review.show("", "");
    this.curve.show([]);
    this.lesson.textContent = "";
    this.title.textContent = `my.${name}`;
    this.table.href = `${under(name)}/labels.csv`;
    this.say(name ? `Say of hits whether ${name} is in them: with their buttons, or y, n and u.` : "");
    if (name) this.open(true);
    this.paint();
    if (!name) return;
    try {
      await Promise.all([this.list(), this.read(name)]);
      const { estimates } = this.learned ? await json(`${under(name)}/estimates`) : { estimates: [] };
      if (name !== this.name) return;
      this.curve.show(estimates);
      this.ready = true;
      this.paint();
      this.showReview();
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  /** What is said so far, by whomever. @param {string} name */
  async read(name) {
    let labels;
    do { // what was said here is known once it is there
      await this.line;
      ({ labels } = await json(`${under(name)}/labels`));
      if (name !== this.name) return;
    } while (this.onTheWay);
    this.said = new Map(labels.map((one) => [one.window, one]));
    this.paint();
  }

  paint() {
    const { name, counts } = this;
    this.form.hidden = Boolean(name);
    this.tools.hidden = !name;
    this.count.textContent = inWords(counts);
    this.undoButton.disabled = !this.mine.length;
    this.learnButton.disabled = !counts.yes || this.learning;
    this.learnButton.title = counts.yes ? "" : "It takes a yes";
    this.findButton.disabled = !this.learned;
    this.review.allow(this.learned);
    this.reviewButton.setAttribute("aria-expanded", String(Boolean(this.page.asked().review)));
    this.decorate();
  }

  /** Give each hit its buttons, or take them away. */
  decorate() {
    for (const hit of this.hits.hits) {
      const row = this.hits.rows.get(hit.window);
      let verdict = row.querySelector(".verdict");
      if (verdict && verdict.dataset.name !== this.name) verdict = verdict.remove();
      if (!this.name) continue;
      if (!verdict) row.querySelector(".says").append(verdict = makeVerdict(this.name, row.getAttribute("aria-label"), (says) => this.label(hit, says, "found", true)));
      mark(verdict, this.said.get(hit.window));
    }
    this.review.mark(mark);
  }

  /**
   * Say something of a window, and show it at once.
   * @param {Hit} hit @param {Says} says @param {string} via how it was found @param {boolean} [isButton] which, pressed again, takes the word back
   */
  label(hit, says, via, isButton = false) {
    const { name } = this;
    const before = this.said.get(hit.window);
    if (before?.says === says) return isButton && before.id ? this.takeBack(before.id, hit) : undefined;
    const word = { says, id: "" };
    this.said.set(hit.window, word);
    this.say(`${says}: ${visible(hit.name ?? "window")}. ${inWords(this.counts)}.`);
    this.paint();
    return this.inTurn(async () => {
      try {
        const { labels } = await (await postAtLast(`${under(name)}/labels`, { [says]: [hit.window], via }, (why) => this.wait(why))).json();
        word.id = labels[0].id;
        if (name === this.name) this.mine.push({ id: word.id, hit });
      } catch (error) {
        if (this.said.get(hit.window) === word) this.said.delete(hit.window);
        if (before && name === this.name) this.said.set(hit.window, before);
        this.notKept += 1;
        const several = this.notKept > 1 ? ` ${this.notKept} words were not kept.` : "";
        this.say(`Not kept: ${/** @type {Error} */ (error).message}${several}`);
      }
    }, name);
  }

  /** @param {string} why they wait; empty if they do no more */
  wait(why) {
    if (this.waitsFor || why) this.say(why ? `${counted(this.onTheWay, "word")} not kept yet, and sent again: leave this page open. ${why}` : "What waited is kept.");
    this.waitsFor = why;
  }

  /** Take back the last word that was said here; another page's words stay. */
  undo() {
    return this.inTurn(async () => {
      const last = this.mine.at(-1);
      if (last) await this.unsay(last.id, last.hit);
    }, this.name);
  }

  /** @param {string} id @param {Hit} hit */
  takeBack(id, hit) {
    return this.inTurn(() => this.unsay(id, hit), this.name);
  }

  /** @param {string} id @param {Hit | null} hit */
  async unsay(id, hit) {
    const { name } = this;
    try {
      const { undone: [undone], counts_again: [again] } = await (await post(`${under(name)}/undo`, { word: id })).json();
      if (name !== this.name) return;
      this.mine = this.mine.filter((one) => one.id !== id);
      if (!undone) return this.say("That word was taken back already.");
      if (again) this.said.set(undone.window, again);
      else this.said.delete(undone.window);
      this.say(`Taken back: ${undone.says} of ${visible(hit?.name ?? `window ${undone.window}`)}. ${inWords(this.counts)}.`);
      if (hit && !again) this.review.bring(hit);
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    }
  }

  /** @param {() => Promise<void>} act @param {string} name */
  inTurn(act, name) {
    this.onTheWay += 1;
    if (this.waitsFor) this.wait(this.waitsFor);
    this.line = this.line.then(act).then(() => {
      this.onTheWay -= 1;
      if (name !== this.name) return;
      this.paint();
      if (this.counts.yes >= LEAST_YES && this.slow < 2) this.learn();
    });
    return this.line;
  }

  /** One lesson at a time; of the labels that come meanwhile, one more. @param {boolean} [aloud] whether it was asked for */
  async learn(aloud = false) {
    const { name } = this;
    if (this.learning) { this.again = true; return; }
    this.learning = true;
    this.learnButton.textContent = "Learning…";
    this.paint();
    const began = performance.now();
    try {
      const lesson = await (await post(`${under(name)}/learn`, {})).json();
      if (name !== this.name) return;
      this.slow = performance.now() - began > QUICK_MS ? this.slow + 1 : 0;
      this.learned = true;
      const { yes = 0, no = 0 } = lesson.counts;
      this.lesson.textContent = `Learned from ${yes} yes and ${no} no: ${counted(lesson.estimate.num_windows, "window")} have it.${lesson.average_precision === null ? "" : ` Average precision of labels of recordings held back: ${lesson.average_precision.toFixed(2)}.`}`;
      if (aloud) this.say(this.lesson.textContent);
      this.curve.show(lesson.estimates);
      this.review.renew();
      this.page.recount();
    } catch (error) {
      this.say(/** @type {Error} */ (error).message);
    } finally {
      this.learning = false;
      this.learnButton.textContent = "Learn";
      this.paint();
      if (this.again) { this.again = false; this.learn(); }
    }
  }

  /** All windows that have it, the most probable first. */
  find() {
    this.page.go({ ...nothing(), teach: this.name, review: this.page.asked().review, tags: [`my.${this.name}`] });
  }

  toggleReview() {
    if (this.page.asked().review) return this.reviewBy("");
    this.review.enter();
    this.reviewBy(this.learned ? "margin" : "random");
  }

  /** @param {string} by empty: no review */
  reviewBy(by) {
    this.page.go({ ...this.page.asked(), review: by }, { push: false, search: false });
    this.paint();
    if (by) this.review.place.scrollIntoView({ block: "nearest" });
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (!this.name || document.querySelector("dialog[open]") || types(event.target)) return;
    const isUndo = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key === "z";
    const says = KEYS[event.key];
    if (!isUndo && (event.ctrlKey || event.metaKey || event.altKey || wants(event.target, event.key))) return;
    const reviewed = !this.hits.contains(document.activeElement) && this.review.current();
    if (isUndo) this.undo();
    else if (says && reviewed) this.review.answer(says);
    else if (reviewed && event.key === " ") this.review.play();
    else if (reviewed && event.key === "s") this.review.skip();
    else if (says && this.hits.currentHit()) this.label(this.hits.currentHit(), says, "found");
    else if (says) this.say("Choose a hit first: j goes to the next.");
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}

/** What the dialog of keys has of these. */
function addKeys() {
  const rows = [[["y", "n", "u"], "the sound is there, is not, nobody can tell"], [["Ctrl+Z"], "take your last word back"], [["s"], "in a review, the next window"]];
  document.querySelector("#keys-dialog .keys")?.append(...rows.map(([keys, says]) => make("div", {}, make("dt", {}, /** @type {string[]} */ (keys).map((key) => make("kbd", {}, key))), make("dd", {}, says))));
}

/** Load the style of the bar, and make it. @param {any} hits @param {any} page */
export async function begin(hits, page) {
  const style = make("link", { rel: "stylesheet", href: "/page/teach.css" });
  await new Promise((resolve) => { style.onload = style.onerror = resolve; document.head.append(style); });
  addKeys();
  return new Teach(hits, page);
}

