// @ts-check
/** The page: the question in the address, its answer below. */

import { bodyOf, filterQuery, fromAddress, hasFilter, hasMinus, isEmpty, isPassing, keyOf, lacksLike, nothing, partsOf, toAddress, whyNoMinus } from "./address.js";
import { chooseFile, listen, send } from "./ask.js";
import { at, copy, counted, icon, keep, make, mention, offerLooks, on, recall } from "./dom.js";
import { firstRegion } from "./example.js";
import { showActive, showWhereError, withTag } from "./filters.js";
import "./hits.js";
import { listenToKeys } from "./keys.js";
import { player } from "./sound.js";
import { describeStores, lostClips, lostParts, offerExport, refuse, say, sayListening, sayNewParts, sayNone, sayNotes, sayWindows } from "./results.js";
import { aboutClip, aboutOf, forgetClip, json, post } from "./server.js";

/** @typedef {import("./address.js").Question} Question */
/** @typedef {import("./address.js").Example} Example */

/** Hits that are asked for at once. */
const PAGE = 30;
/** What is ticked above the hits. */
const TICKS = /** @type {const} */ (["group", "once", "diverse", "place"]);
/** Pixels below the window from which more hits are loaded. */
const AHEAD_PX = 600;

const [hits, example, chips, tagFilters, scores] = [at("hits"), at("example"), at("chips"), at("tags"), at("scores")];

/** @type {any} what the server has, once it said */
let stores = null;
let question = fromAddress(location.hash);
/** Which example's waveform is shown. */
let shown = 0;
/** @type {string | null} where the next page begins */
let cursor = null;
let searching = new AbortController();
let counting = new AbortController();
/** @type {any} */
let answer = null;
/** Whether the first row of the next answer is the current one, for who goes on with keys. */
let choosing = false;
/** @type {Record<string, any>} what was sent for it */
let sent = {};
/** @type {Promise<any> | undefined} the bar for teaching, loaded once it is opened */
let teaching;
const teach = () => (teaching ??= import("./teach.js").then(({ begin: open }) => open(hits, { go, asked: () => question, recount: countTags })));

/**
 * Ask this. A new question is one to go back from; a small change takes the place of the one before.
 * @param {Question} next @param {{push?: boolean, search?: boolean}} [how]
 */
function go(next, { push = true, search: searches = true } = {}) {
  const sameFilter = filterQuery(next) === filterQuery(question);
  question = next;
  const address = toAddress(next);
  const same = address === location.hash.slice(1);
  history[push && !same ? "pushState" : "replaceState"](null, "", location.pathname + (address ? `#${address}` : ""));
  draw();
  if (searches) search();
  if (!sameFilter) countTags();
}

function draw() {
  shown = Math.min(shown, Math.max(0, question.examples.length - 1));
  for (const name of TICKS) at(name).checked = question[name];
  at("place").disabled = hasMinus(question);
  at("place-choice").title = hasMinus(question) ? "With an example of what not, hits are ranked by all of them" : "";
  at("sort").value = question.sort;
  at("words").value = question.words;
  if (question.projection) at("projection").value = question.projection;
  at("where").value = question.where;
  at("drop").classList.toggle("small", !isEmpty(question));
  at("results").classList.toggle("idle", isEmpty(question));
  at("like-first").hidden = !lacksLike(question);
  at("link-note").hidden = !isPassing(question);
  tagFilters.mark(question);
  showActive(at("active"), question, go);
  chips.show(question.examples, shown, whyNoMinus(question));
  (question.teach ? teach() : teaching)?.then((bar) => bar.show());
  showExample();
}

async function showExample() {
  const one = question.examples[shown];
  if (!one) {
    example.hidden = true;
    document.title = "soundalike";
    return;
  }
  try {
    const about = await aboutOf(one);
    if (question.examples[shown] !== one) return;
    document.title = `like ${about.name} · soundalike`;
    example.show(one, about, keyOf(one), stores?.limits.asked_s ?? Infinity);
    offerPlace();
  } catch {
    // The search itself says what is the matter with it.
    example.hidden = true;
  }
}

/** Whether ranking by the place means something: an example shorter than a window. @returns {Promise<boolean>} */
async function canRankByPlace() {
  if (!stores?.has_frames) return false;
  const lengths = await Promise.all(question.examples.filter((one) => !one.minus).map((one) => (one.end !== undefined ? one.end - (one.start ?? 0) : aboutOf(one).then((about) => about.duration, () => Infinity))));
  return lengths.some((length) => length < stores.window_s - 0.01);
}

const offerPlace = async () => { at("place-choice").hidden = !(question.place || (await canRankByPlace())); };

/** Ask the server; only the newest question may paint. */
async function search() {
  searching.abort();
  searching = new AbortController();
  const { signal } = searching;
  const asked = question;
  if (lacksLike(asked)) {
    // What was found before stays, and its pages go on.
    if (answer) count();
    return;
  }
  at("load-more").hidden = true;
  at("end").hidden = true;
  showWhereError(null, "");
  if (isEmpty(asked)) return welcome();
  const stopSaying = sayListening();
  try {
    const place = asked.place && (await canRankByPlace());
    const body = bodyOf({ ...asked, place }, PAGE);
    const found = await (await post("/api/v1/search", body, signal)).json();
    if (signal.aborted) return;
    sent = body;
    paint(found, asked);
  } catch (error) {
    if (!signal.aborted) await fail(/** @type {any} */ (error), asked, signal);
  } finally {
    stopSaying();
  }
}

function welcome() {
  answer = null;
  hits.show([], { sort: question.sort });
  scores.show(undefined, []);
  at("notes").hidden = true;
  at("count").textContent = "";
  say(stores?.has_index && !stores.num_windows ? "The store holds no windows yet: fill it with `soundalike index`, then reload." : "Nothing is asked yet. Drop a sound above to find what sounds like it, or choose a tag to look through what there is.");
}

/** @param {any} found @param {Question} asked */
function paint(found, asked) {
  answer = found;
  cursor = found.cursor;
  const none = !found.hits.length;
  const rows = none ? found.almost ?? [] : found.hits;
  at("sort-clock").hidden = !rows.some((hit) => hit.clock);
  hits.show(rows, { ranked: !none, sort: asked.sort, noMinus: whyNoMinus(asked) });
  scores.show(none ? undefined : found.background?.scores, found.hits);
  if (choosing && rows.length) hits.choose(hits.ordered[0].window);
  choosing = false;
  say("");
  if (none) {
    at("state").hidden = false;
    sayNone(at("state"), found, asked, go);
  }
  sayNotes(found, asked, (next) => go(next, { push: false }));
  sayNewParts(found.num_new_parts);
  sayWindows(stores.stores, found.num_windows);
  count();
}

/** @param {number | undefined} ms */
const tookInWords = (ms) => (ms === undefined ? "" : ms < 1000 ? `, in ${Math.round(ms)} ms` : `, in ${(ms / 1000).toFixed(1)} s`);

/** How many there are, for eyes and ears. */
function count() {
  const number = answer?.hits.length ? hits.hits.length : 0;
  const from = hasFilter(question) ? `${counted(answer.num_matching, "window")} that fit` : counted(answer.num_windows, "window");
  at("count").textContent = `${counted(number, "hit")} of ${from}${tookInWords(answer.ms)}`;
  const isFull = number >= stores.limits.hits;
  at("load-more").hidden = !cursor || isFull;
  at("end").hidden = !number || (Boolean(cursor) && !isFull);
  at("end").textContent = isFull ? `An answer ends with ${counted(number, "hit")}: narrow it with a filter.` : "These are all of them.";
}

async function loadMore() {
  if (!cursor || at("load-more").disabled) return;
  at("load-more").disabled = true;
  const { signal } = searching;
  try {
    const found = await (await post("/api/v1/search", { ...sent, cursor, k: Math.min(PAGE, stores.limits.hits - hits.hits.length) }, signal)).json();
    if (signal.aborted) return;
    cursor = found.cursor;
    hits.extend(found.hits);
    scores.show(answer.background?.scores, hits.hits);
    count();
  } catch (error) {
    if (!signal.aborted) mention(/** @type {Error} */ (error).message);
  } finally {
    at("load-more").disabled = false;
  }
}

/** Load the next hits before one comes to the end of those there are. */
function loadAhead() {
  if (!at("load-more").hidden && at("load-more").getBoundingClientRect().top < innerHeight + AHEAD_PX) loadMore();
}

/** @param {any} failure @param {Question} asked @param {AbortSignal} signal */
async function fail(failure, asked, signal) {
  at("count").textContent = "";
  if (failure.about === "where" || failure.at) {
    showWhereError(failure, asked.where);
    at("filters-fold").open = true;
    at("count").textContent = hits.hits.length ? "The filter expression cannot be read; these are the hits from before." : "The filter expression cannot be read.";
    return;
  }
  if (failure.status === 401) return refuse();
  const parts = failure.status === 404 ? await lostParts(partsOf(asked)) : [];
  if (parts.length && !signal.aborted) {
    mention("A part of the map is no longer kept: it was dropped from the filter.");
    return go(parts.reduce((next, name) => withTag(next, name, null), asked), { push: false });
  }
  const lost = failure.status === 404 ? await lostClips(asked.examples) : [];
  if (signal.aborted) return;
  hits.show([], { sort: asked.sort });
  scores.show(undefined, []);
  at("notes").hidden = true;
  if (!lost.length) return say(failure.message);
  lost.forEach(forgetClip);
  example.hidden = lost.includes(question.examples[shown]?.id) || example.hidden;
  const rest = asked.examples.filter((one) => !lost.includes(one.id));
  say("The uploaded sound is no longer kept; drop it again.", make("p", {}, make("button.button", { id: "drop-lost", onclick: () => go({ ...asked, examples: rest }) }, "Ask without it")));
}

/** The numbers beside the tags, under the filter as it is. */
async function countTags() {
  counting.abort();
  counting = new AbortController();
  const { signal } = counting;
  const asked = (filter) => json(`/api/v1/tags?${filterQuery(filter)}`, { signal });
  try {
    // An expression that cannot be read is told of by the search: numbers from before stay, and where there are none any will do.
    const { tags } = await asked(question).catch((error) => (!tagFilters.all.length && (error.about === "where" || error.at) ? asked({ ...question, where: "" }) : Promise.reject(error)));
    if (!signal.aborted) tagFilters.show(tags);
  } catch (error) {
    if (!signal.aborted && /** @type {any} */ (error).status === 401) refuse();
  }
}

/** @param {{sound: Blob, name: string}[]} sounds @param {boolean} add beside the examples there are */
async function takeSounds(sounds, add) {
  const { upload_bytes: most, asked_s: limit } = stores?.limits ?? { upload_bytes: Infinity, asked_s: Infinity };
  const status = await send(sounds, most, (clip, index) => addExample({ kind: "c", id: clip.id, minus: false, ...firstRegion(aboutClip(clip).duration, limit) }, add || index > 0 || lacksLike(question)));
  if (status === 401) refuse();
}

/** @param {Example} one @param {boolean} beside the others, or in their place */
function addExample(one, beside) {
  player.stop();
  const others = beside ? question.examples.filter((other) => keyOf(other) !== keyOf(one)) : [];
  shown = others.length;
  const { words } = question;
  go({ ...question, examples: [...others, one], words: "", self: beside && question.self });
  if (words) mention(`Asked with the sound, in place of “${words}”.`);
}

/** @param {any} hit */
const alike = (hit) => {
  addExample({ kind: "w", id: hit.window, minus: false }, false);
  scrollTo({ top: 0, behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
};

/** @param {any} hit @param {boolean} minus */
const addHit = (hit, minus) => {
  const why = minus && whyNoMinus(question);
  if (why) return mention(`${why}.`);
  const [before, { words }] = [shown, question];
  addExample({ kind: "w", id: hit.window, minus }, true);
  shown = Math.min(before, question.examples.length - 1);
  draw();
  if (!words) mention(minus ? "Added: not like this." : "Added: like this.");
};

function listenToAll() {
  listen({
    sounds: takeSounds,
    window: (id) => addExample({ kind: "w", id, minus: false }, lacksLike(question)),
    words: (words, projection) => go({ ...question, words, examples: words ? [] : question.examples, projection: stores.projections.length > 1 ? projection : "" }),
  });
  on(chips, "pick", ({ detail }) => { shown = detail.index; draw(); });
  on(chips, "swap", ({ detail }) => go({ ...question, examples: question.examples.map((one, index) => (index === detail.index ? { ...one, minus: !one.minus } : one)) }));
  on(chips, "remove", ({ detail }) => go({ ...question, examples: question.examples.filter((_, index) => index !== detail.index) }));
  on(chips, "more", () => chooseFile(true));
  on(example, "region", ({ detail }) => {
    const { kind, id, minus } = question.examples[shown];
    go({ ...question, examples: question.examples.map((one, index) => (index === shown ? { kind, id, minus, ...detail } : one)) }, { push: false });
  });
  on(tagFilters, "filter", ({ detail }) => go(withTag(question, detail.name, detail.way)));
  on(tagFilters, "heard", ({ detail }) => go({ ...question, heard: detail }, { push: false }));
  on(player, "failed", () => { if (player.failure.key.startsWith("example:")) mention(player.failure.sentence); });
  on(hits, "alike", ({ detail }) => alike(detail.hit));
  on(hits, "add", ({ detail }) => addHit(detail.hit, detail.minus));
  on(hits, "tag", ({ detail }) => go(withTag(question, detail.name, "tags")));
  on(hits, "current", () => scores.point(hits.currentHit()?.score ?? null));
  on(hits, "select", () => at("open-export").replaceChildren(icon("down"), hits.selected.size ? `Export ${hits.selected.size} selected` : "Export"));
  for (const name of TICKS) on(name, "change", () => go({ ...question, [name]: at(name).checked }, { push: false }));
  on("sort", "change", () => {
    go({ ...question, sort: at("sort").value }, { push: false, search: false });
    hits.arrange(question.sort);
  });
  const writeWhere = () => { if (at("where").value.trim() !== question.where) go({ ...question, where: at("where").value.trim() }); };
  on("where", "change", writeWhere);
  on("where-form", "submit", (event) => { event.preventDefault(); writeWhere(); });
  on("where-help", "click", () => at("where-dialog").showModal());
  on("where-examples", "click", (event) => {
    if (!event.target.matches("button")) return;
    at("where-dialog").close();
    at("where").value = event.target.textContent;
    writeWhere();
  });
  on("load-more", "click", loadMore);
  addEventListener("scroll", loadAhead, { passive: true });
  on("copy-link", "click", () => copy(location.href, "the address"));
  for (const dialog of document.querySelectorAll("dialog")) on(dialog, "click", (event) => {
    // A press beside the dialog, on what it covers, closes it; its own margin is part of it.
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    const beside = event.clientX < left || event.clientX > right || event.clientY < top || event.clientY > bottom;
    if (event.target === dialog && beside) dialog.close();
  });
  on("home", "click", (event) => { event.preventDefault(); go(nothing()); });
  on("open-teach", "click", () => teach().then((bar) => bar.toggle()));
  on("skip", "click", () => at("results").focus());
  on("show-keys", "click", () => at("keys-dialog").showModal());
  on("preview", "change", () => keep("preview", at("preview").checked ? "on" : "off"));
  on("open-map", "click", async () => (await import("./map.js")).toggle({ hits, tags: tagFilters, question: () => question, go, alike }));
  addEventListener("popstate", () => {
    shown = 0;
    go(fromAddress(location.hash), { push: false });
  });
}

/** What a key does to a control: go there, or press it. @param {string} id */
function press(id) {
  if (!at(id).matches("input:not([type=checkbox])")) return at(id).click();
  at("filters-fold").open = true;
  at(id).focus();
}

async function begin() {
  // The token has become a cookie; in the address it would be copied along with links.
  if (new URLSearchParams(location.search).has("token")) history.replaceState(null, "", location.pathname + location.hash);
  at("show-keys").append(icon("keys"));
  at("copy-link").prepend(icon("link"));
  offerLooks(at("look"));
  at("preview").checked = recall("preview") !== "off";
  const wide = matchMedia("(min-width: 900px)");
  const fold = () => { at("filters-fold").open = wide.matches; };
  on(wide, "change", fold);
  fold();
  listenToAll();
  listenToKeys(hits, { preview: () => at("preview").checked, playExample: () => example.play(), press, alike: (hit) => { choosing = true; alike(hit); }, add: addHit });
  offerExport(() => ({ search: { ...sent, k: hits.hits.length }, selected: [...hits.selected], shown: hits.hits, zipped: stores.limits.zipped }));
  draw();
  try {
    stores = await json("/api/v1/stores");
  } catch (error) {
    const failure = /** @type {any} */ (error);
    return failure.status === 401 ? refuse() : say(failure.message);
  }
  describeStores(stores);
  if (stores.has_thresholds) tagFilters.offerMeasured();
  draw();
  search();
  countTags();
}

begin();
