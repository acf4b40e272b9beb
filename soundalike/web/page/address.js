// @ts-check
/** The question, and how it stands in the address: whatever is asked can be gone back to, reloaded and sent to others. */

/** @typedef {{kind: "w" | "c", id: string, start?: number, end?: number, minus: boolean}} Example a window or an uploaded clip; seconds from its start */
/**
 * @typedef {object} Question
 * @property {Example[]} examples
 * @property {string} words in place of examples: the two have no common score
 * @property {string} projection
 * @property {string[]} tags must be heard
 * @property {string[]} any one of these must be heard
 * @property {string[]} not must not be heard
 * @property {string} where
 * @property {string} heard from which probability a tag counts, or "auto"; empty: as the server has it
 * @property {boolean} group one hit a file
 * @property {boolean} once near-copies once
 * @property {boolean} diverse
 * @property {boolean} place rank by the place within a window
 * @property {boolean} self what asks is among the hits
 * @property {string} sort
 * @property {string} teach the name that is taught, without "my."
 * @property {string} review in which order windows are reviewed for it; empty: they are not
 */

/** @returns {Question} */
export const nothing = () => ({
  examples: [], words: "", projection: "", tags: [], any: [], not: [], where: "", heard: "", group: false, once: false, diverse: false, place: false, self: false, sort: "score", teach: "", review: "",
});

/** Names in the address of what is a text, a list or yes and no. @type {[keyof Question, string][]} */
const TEXTS = [["words", "words"], ["projection", "in"], ["where", "where"], ["heard", "heard"], ["teach", "teach"], ["review", "review"]];
/** @type {["tags" | "any" | "not", string][]} */
const LISTS = [["tags", "tag"], ["any", "any"], ["not", "not"]];
/** @type {["group" | "once" | "diverse" | "place" | "self", string][]} */
const SWITCHES = [["group", "group"], ["once", "once"], ["diverse", "diverse"], ["place", "place"], ["self", "self"]];

/** Percent signs only where they are needed, so that an address can be read. @param {string} text */
const escaped = (text) => encodeURIComponent(text).replace(/%(3A|40|2C|2F|20)/g, (_, code) => (code === "20" ? "+" : String.fromCharCode(parseInt(code, 16))));

/** @param {number} seconds */
const short = (seconds) => String(Math.round(seconds * 1000) / 1000);

/** @param {Example} example */
function written(example) {
  const region = example.end === undefined ? "" : `@${short(example.start ?? 0)}-${short(example.end)}`;
  return `${example.kind}:${example.id}${region}`;
}

/** Whether a text may be a window's id, which has 63 bits. @param {string} text */
export const isWindow = (text) => /^\d{1,19}$/.test(text);

/** @param {string} text @param {boolean} minus @returns {Example[]} none where it cannot be read */
function read(text, minus) {
  const found = /^([wc]):([\w-]{1,64})(?:@(\d+\.?\d*)-(\d+\.?\d*))?$/.exec(text);
  if (!found || (found[1] === "w" && !isWindow(found[2]))) return [];
  const example = { kind: /** @type {"w" | "c"} */ (found[1]), id: found[2], minus };
  return [found[4] ? { ...example, start: Number(found[3]), end: Number(found[4]) } : example];
}

/** @param {Question} question @returns {string} what follows the # of the address */
export function toAddress(question) {
  const parts = question.examples.map((example) => [example.minus ? "unlike" : "like", written(example)]);
  for (const [field, name] of TEXTS) if (question[field]) parts.push([name, String(question[field])]);
  for (const [field, name] of LISTS) for (const tag of question[field]) parts.push([name, tag]);
  for (const [field, name] of SWITCHES) if (question[field]) parts.push([name, "1"]);
  if (question.sort !== "score") parts.push(["sort", question.sort]);
  return parts.map(([name, value]) => `${name}=${escaped(value)}`).join("&");
}

/** @param {string} hash @returns {Question} what cannot be read is left out */
export function fromAddress(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const question = nothing();
  for (const [name, value] of given) if (name === "like" || name === "unlike") question.examples.push(...read(value, name === "unlike"));
  for (const [field, name] of TEXTS) /** @type {any} */ (question)[field] = given.get(name) ?? "";
  if (question.examples.length) question.words = "";
  for (const [field, name] of LISTS) question[field] = given.getAll(name);
  for (const [field, name] of SWITCHES) question[field] = given.get(name) === "1";
  question.sort = given.get("sort") ?? "score";
  return question;
}

/** Why nothing can be an example of what not; empty where it can. @param {Question} question */
export const whyNoMinus = (question) => (question.words ? "Words have no minus yet" : ranksByPlace(question) ? "Ranked by the place there is no minus: untick that first" : "");

/** @param {Question} question */
export const hasMinus = ({ examples }) => examples.some((one) => one.minus);

/** Nothing is both unlike something and ranked by the place: the server has no score for it. @param {Question} question */
export const ranksByPlace = (question) => question.place && !hasMinus(question);

/** @param {Question} question */
export const hasFilter = (question) => Boolean(question.tags.length || question.any.length || question.not.length || question.where);

/** @param {Question} question */
export const isEmpty = (question) => !question.examples.length && !question.words && !hasFilter(question);

/** Whether sounds ask, but none that hits are to be like. @param {Question} question */
export const lacksLike = ({ examples }) => examples.length > 0 && examples.every((one) => one.minus);

/** @param {Question} question */
const filterOf = (question) => ({ tags: question.tags, any_tags: question.any, not_tags: question.not, where: question.where || null });

/** @param {Example} example */
function named(example) {
  const it = example.kind === "w" ? { window: example.id } : { clip: example.id };
  return example.end === undefined ? it : { ...it, start_s: example.start ?? 0, end_s: example.end };
}

/** @param {Question} question @param {number} k @returns {Record<string, any>} what the server is sent */
export function bodyOf(question, k) {
  const { examples, words, projection, heard } = question;
  return {
    like: examples.filter((example) => !example.minus).map(named), unlike: examples.filter((example) => example.minus).map(named),
    text: words ? [words] : [], ...(projection ? { projection } : {}), ...filterOf(question), ...(heard ? { threshold: heard === "auto" ? heard : Number(heard) } : {}),
    k, group_by: question.group ? "file" : null, unique: question.once, diverse: question.diverse, by: ranksByPlace(question) ? "place" : "scene", include_self: question.self,
  };
}

/** @param {Question} question @returns {string} the filter as a query string */
export function filterQuery(question) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(filterOf(question))) for (const one of [value ?? []].flat()) given.append(name, one);
  if (question.heard) given.append("threshold", question.heard);
  return given.toString();
}

/** Under what an example plays, and what it is told apart by. @param {Example} example */
export const keyOf = (example) => `example:${written(example)}`;

/** Whether a name among tags is that of a part of the map. @param {string} name */
const isPart = (name) => name.startsWith("selected.");

/** @param {string} name of a tag, or of a part of the map */
export const shownName = (name) => (isPart(name) ? "part of the map" : name);

/** @param {Question} question @returns {string[]} names of parts of the map */
export const partsOf = (question) => LISTS.flatMap(([field]) => question[field].filter(isPart));

/** Whether its address works with this server only, and for a while. @param {Question} question */
export const isPassing = (question) => question.examples.some((example) => example.kind === "c") || partsOf(question).length > 0;
