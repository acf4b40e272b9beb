// @ts-check
/** Filters: tags with how many windows have them, their tree, the expression and where it cannot be read, what is in force. */

import { shownName } from "./address.js";
import { at, emit, icon, iconButton, make, refill } from "./dom.js";

/** @typedef {import("./address.js").Question} Question */
/** @typedef {{id: string, name: string, count: number, children: string[], is_root: boolean}} Tag */
/** @typedef {"tags" | "any" | "not"} Way how a tag filters */

/** Tags that are shown before one is looked for, and at most while one is. */
const FIRST_TAGS = 30;
const MOST_TAGS = 60;

/** @type {Record<Way, {sign: string, says: string, next: Way}>} */
const WAYS = {
  tags: { sign: "+", says: "must be heard", next: "any" },
  any: { sign: "or", says: "one of these must be heard", next: "not" },
  not: { sign: "−", says: "must not be heard", next: "tags" },
};
const ALL_WAYS = /** @type {Way[]} */ (Object.keys(WAYS));

/** @param {Tag} tag of one's own */
const isLearned = ({ id }) => Number(id.startsWith("my."));

/** The question with a tag moved to another way, or out. @param {Question} question @param {string} name @param {Way | null} way @returns {Question} */
export function withTag(question, name, way) {
  const next = { ...question };
  for (const each of ALL_WAYS) next[each] = question[each].filter((one) => one !== name);
  if (way) next[way] = [...next[way], name];
  return next;
}

/** @param {Question} question @param {string} name @returns {Way | null} */
const wayOf = (question, name) => ALL_WAYS.find((way) => question[way].includes(name)) ?? null;

/** Emits `filter` with {name, way}, and `heard` with the threshold. */
class TagFilters extends HTMLElement {
  /** @type {Tag[]} */
  all = [];
  /** @type {Map<string, Tag>} */
  byId = new Map();
  /** @type {Question | null} */
  question = null;
  /** @type {Set<string>} ids of opened branches, kept while counts change */
  opened = new Set();

  connectedCallback() {
    this.box = make("input", { id: "tag-search", type: "search", placeholder: "Find a tag", autocomplete: "off", spellcheck: "false", "aria-label": "Find a tag", oninput: () => this.list(), onkeydown: (event) => event.key === "Enter" && this.facets.querySelector("button")?.click() });
    this.facets = make("ul.facets", { id: "facets", "aria-label": "Tags, your own and then the most frequent first" });
    this.says = make("p.quiet.note", { role: "status" });
    this.tree = make("div.tree", { id: "tree" });
    this.fold = make("details.fold", { id: "tree-fold", ontoggle: () => this.grow() }, make("summary", {}, "All kinds of sound"), this.tree);
    this.heard = make("select", { id: "heard", onchange: () => emit(this, "heard", this.heard.value) });
    for (const [value, says] of [["0.1", "0.1: more, and more wrong"], ["", "0.25"], ["0.5", "0.5: fewer, and surer"]]) this.heard.append(make("option", { value }, says));
    this.append(this.box, this.facets, this.says, this.fold, make("label.choice.heard", {}, "Count a tag from", this.heard));
  }

  /** @param {Question} question */
  mark(question) {
    this.question = question;
    if (![...this.heard.options].some((option) => option.value === question.heard)) this.heard.append(make("option", { value: question.heard }, question.heard));
    this.heard.value = question.heard;
    this.list();
    this.grow();
  }

  /** For stores in which it was measured from where on each tag is right. */
  offerMeasured() {
    this.heard.querySelector("[value=auto]")?.remove();
    this.heard.append(make("option", { value: "auto" }, "each its own, as measured"));
  }

  /** @param {Tag[]} tags */
  show(tags) {
    this.all = tags;
    this.byId = new Map(tags.map((tag) => [tag.id, tag]));
    this.list();
    this.grow();
  }

  list() {
    const wanted = this.box.value.trim().toLowerCase();
    const found = this.all.filter((tag) => (wanted ? tag.name.toLowerCase().includes(wanted) : tag.count > 0)).sort((one, other) => isLearned(other) - isLearned(one) || other.count - one.count);
    const most = Math.max(1, ...found.map((tag) => tag.count));
    const shown = found.slice(0, wanted ? MOST_TAGS : FIRST_TAGS);
    refill(this.facets, ...shown.map((tag) => make("li", {}, this.row(tag, tag.count / most))));
    this.says.textContent = !found.length && !wanted && this.all.length ? "No window is left, so no tag is either." : wanted && !found.length ? `No tag has “${this.box.value.trim()}” in its name.` : found.length > shown.length ? `and ${found.length - shown.length} more: search above` : "";
  }

  /** @param {Tag} tag @param {number} share of the longest bar */
  row(tag, share) {
    const way = this.question ? wayOf(this.question, tag.name) : null;
    const tell = (next) => emit(this, "filter", { name: tag.name, way: way === next ? null : next });
    const bar = make("span.bar", { style: { width: `${share * 100}%` } });
    const name = make("button.facet-name", { "aria-pressed": String(way === "tags" || way === "any"), title: `${tag.name} must be heard`, "data-tag": tag.name, onclick: () => tell("tags") },
      bar, make("span.label", {}, tag.name), make("span.number", {}, tag.count.toLocaleString("en")));
    const minus = make("button.icon.small", { "aria-pressed": String(way === "not"), title: `${tag.name} must not be heard`, "aria-label": `Without ${tag.name}`, "data-not": tag.name, onclick: () => tell("not") }, icon("minus"));
    return make(`div.facet${tag.count ? "" : ".none"}${way ? `.${way}` : ""}`, {}, name, minus);
  }

  /** Draw the tree where it is open; a branch has its leaves only once it was opened. */
  grow() {
    if (!this.fold.open) return;
    const scrolled = this.tree.scrollTop;
    refill(this.tree, this.branch(this.all.filter((tag) => tag.is_root)));
    this.tree.scrollTop = scrolled;
  }

  /** @param {Tag[]} tags @returns {HTMLElement} */
  branch(tags) {
    return make("ul", {}, tags.map((tag) => make("li", {}, tag.children.length ? this.fork(tag) : this.row(tag, 0))));
  }

  /** @param {Tag} tag */
  fork(tag) {
    const children = tag.children.map((id) => this.byId.get(id)).filter((child) => child !== undefined);
    const open = this.opened.has(tag.id);
    const fork = make("div.fork", {});
    const toggle = make("button.icon.small.twist", { "aria-expanded": String(open), "aria-label": `Kinds of ${tag.name}`, onclick: () => {
      if (open) this.opened.delete(tag.id);
      else this.opened.add(tag.id);
      const next = this.fork(tag);
      fork.replaceWith(next);
      next.querySelector("button")?.focus();
    } }, icon("play"));
    fork.append(make("div.line", {}, toggle, this.row(tag, 0)), open ? this.branch(/** @type {Tag[]} */ (children)) : "");
    return fork;
  }
}

customElements.define("tag-filters", TagFilters);

/**
 * What is in force, each with a way out.
 * @param {HTMLElement} place @param {Question} question @param {(next: Question) => void} change
 */
export function showActive(place, question, change) {
  const chips = ALL_WAYS.flatMap((way) => question[way].map((name) => {
    const { sign, says, next } = WAYS[way];
    const shown = shownName(name);
    return make(`span.filter-chip.${way}`, { "data-filter": name },
      make("button.sign", { title: `${says}; click: ${WAYS[next].says}`, "aria-label": `${shown} ${says}; change that`, onclick: () => change(withTag(question, name, next)) }, sign),
      shown, iconButton("close", `Drop the filter ${shown}`, () => change(withTag(question, name, null))));
  }));
  if (question.where) chips.push(make("span.filter-chip.where-chip", { "data-filter": "where" }, make("code", {}, question.where), iconButton("close", "Drop the expression", () => change({ ...question, where: "" }))));
  place.hidden = !chips.length;
  if (!chips.length) return refill(place);
  const reset = make("button.button.plain", { id: "reset-filters", onclick: () => change({ ...question, tags: [], any: [], not: [], where: "" }) }, "Reset");
  refill(place, make("span.quiet", {}, icon("filter"), "Only"), ...chips, reset);
}

/**
 * Under the expression: why it cannot be read, with the place pointed at. Places count characters, as people do, not UTF-16.
 * @param {{message: string, at: [number, number] | null} | null} failure @param {string} where
 */
export function showWhereError(failure, where) {
  const place = at("where-error");
  const box = at("where");
  place.hidden = !failure;
  box.toggleAttribute("aria-invalid", Boolean(failure));
  if (!failure) return place.replaceChildren();
  box.setAttribute("aria-invalid", "true");
  const letters = Array.from(where);
  const [from, least] = failure.at ?? [0, 0];
  let to = Math.max(least, from + 1);
  // A single letter is the beginning of a word: point at all of it.
  while (least <= from + 1 && /[\w.]/.test(letters[to - 1] ?? "") && /[\w.]/.test(letters[to] ?? "")) to += 1;
  const pointed = failure.at ? make("code", {}, letters.slice(0, from).join(""), make("mark", {}, letters.slice(from, to).join("") || "␣"), letters.slice(to).join("")) : null;
  place.replaceChildren(failure.message, ...(pointed ? [pointed] : []));
}

/** What the server calls a filter that removed all, as the question without it. @param {Question} question @param {string} term such as "tags: Dog" @returns {Question} */
export function withoutTerm(question, term) {
  const [, field, name] = /^(\w+)\W*(.*)$/s.exec(term) ?? ["", "", ""];
  if (field === "where") return { ...question, where: "" };
  return withTag(question, name, null);
}
