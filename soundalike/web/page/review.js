// @ts-check
/** A queue of windows to label next: one at a time, heard, and answered with a key. */

import { at, clock, fetchPicture, iconButton, icon, inFolder, make, on, span, visible } from "./dom.js";
import { player } from "./sound.js";
import { audioOf, json, pictureOf } from "./server.js";

/** @typedef {import("./hits.js").Hit} Hit */

/** Windows that are asked for at once; more by those that were skipped, as far as the server gives them. */
const MOST = 20;
const MOST_AT_ONCE = 100;
/** Tags that are told of one. */
const ROW_TAGS = 2;
/** In which order, as the server calls it, and as people do. */
const ORDERS = /** @type {const} */ ({
  margin: "the least sure: sharpens it", top: "the most probable: finds more", diverse: "probable, unlike each other: widens it", random: "drawn at random: tells how often it is right",
});

/**
 * @param {object} tell
 * @param {(hit: Hit, says: "yes" | "no" | "unsure", via: string) => void} tell.label @param {(window: string) => any} tell.said
 * @param {(name: string, where: string, press: (says: any) => void) => HTMLElement} tell.verdict makes buttons @param {(by: string) => void} tell.by another order is wanted
 */
export function makeReview({ label, verdict, said, by: choose }) {
  let [name, by] = ["", ""];
  /** @type {Hit[]} what is to be answered, the present one first */
  let queue = [];
  /** @type {Set<string>} windows that were skipped */
  let skipped = new Set();
  /** @type {Set<string>} those that were answered */
  let answered = new Set();
  let asking = new AbortController();
  /** Whether the next window that is shown gets the focus: Space plays it then. */
  let entering = false;
  const order = make("select", { id: "review-by", onchange: () => choose(order.value) }, Object.entries(ORDERS).map(([value, says]) => make("option", { value }, says)));
  const card = make("div.review-card", { id: "review-card" });
  const place = make("div", { id: "review", class: "review", role: "group", "aria-label": "Review", hidden: true },
    make("div.line", {}, make("label.choice", {}, "Review", order), make("span.quiet", { id: "review-keys" }, "y, n, u answer; s skips; Space plays")), card);
  const current = () => (place.hidden ? undefined : queue[0]);

  /** @param {Set<string>} kind what becomes of the present one */
  const advance = (kind) => {
    const hit = queue.shift();
    if (hit) kind.add(hit.window);
    draw(true);
    if (queue.length < MOST / 4) fetchMore();
  };

  const skip = () => advance(skipped);

  /** @param {"yes" | "no" | "unsure"} says */
  const answer = (says) => {
    const hit = current();
    if (!hit) return;
    label(hit, says, by);
    advance(answered);
  };

  const play = () => {
    const hit = current();
    if (hit?.is_there) player.toggle(`review:${hit.window}`, audioOf({ kind: "w", id: hit.window }));
  };

  /** Show the first of the queue. @param {boolean} [aloud] whether it is played, if hits are on moving to them */
  function draw(aloud = false) {
    const hit = queue[0];
    if (player.key.startsWith("review:") && player.key !== `review:${hit?.window}`) player.stop();
    if (card.dataset.window === (hit?.window ?? "")) return;
    const focused = card.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement).dataset.says ?? "play" : "";
    card.dataset.window = hit?.window ?? "";
    if (!hit) return card.replaceChildren(make("p.quiet", { role: "status" }, "No window is left to review in this order."));
    const path = visible(hit.path ?? "");
    const shown = visible(hit.name ?? "a file whose place is not known");
    const picture = make("img", { alt: "", width: 640, height: 96 });
    if (hit.is_there) fetchPicture(picture, pictureOf({ kind: "w", id: hit.window }, { width: 640, height: 96 }));
    const button = iconButton("play", `Play ${shown} at ${clock(hit.start_s)}`, play, { "data-do": "play", disabled: !hit.is_there });
    button.classList.add("round");
    const heard = hit.score === null ? "" : ` · my.${name} ${hit.score.toFixed(2)}`;
    const tags = hit.tags.slice(0, ROW_TAGS).map((tag) => `${tag.name} ${tag.probability.toFixed(2)}`).join(", ");
    card.replaceChildren(button, hit.is_there ? picture : make("span.quiet", {}, "file not there"),
      make("div.review-says", {}, make("p.name", { title: path }, inFolder(shown, path)), make("p.quiet", { role: "status" }, `${span(hit.start_s, hit.end_s)}${heard}${tags ? ` · ${tags}` : ""}`)),
      verdict(name, shown, answer), make("button.button.plain", { id: "review-skip", title: "Leave it (s)", onclick: skip }, "Skip"));
    if (entering) button.focus({ preventScroll: true });
    else if (focused) (card.querySelector(`[data-says=${focused}]`) ?? button).focus();
    entering = false;
    if (aloud && at("preview").checked) play();
  }

  /** Ask for the newest order; what is being listened to stays. */
  async function fetchMore() {
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    if (!by) return;
    try {
      const k = Math.min(MOST_AT_ONCE, MOST + skipped.size);
      const { windows } = await json(`/api/v1/taught/${name}/review?by=${by}&k=${k}`, { signal });
      const first = queue[0];
      const fresh = windows.filter((hit) => hit.window !== first?.window && !skipped.has(hit.window) && !said(hit.window));
      queue = [...(first ? [first] : []), ...fresh];
      draw();
    } catch (error) {
      if (!signal.aborted) card.replaceChildren(make("p", { role: "status" }, /** @type {Error} */ (error).message));
    }
  }

  on(player, "change", () => card.querySelector("[data-do=play]")?.replaceChildren(icon(player.playing && player.key.startsWith("review:") ? "stop" : "play")));

  return {
    place, current, answer, skip, play,
    /** @param {string} nextName @param {string} nextBy none of ORDERS: no review */
    show(nextName, nextBy) {
      const wanted = nextName && Object.hasOwn(ORDERS, nextBy) ? nextBy : "";
      place.hidden = !wanted;
      if (nextName === name && wanted === by) return;
      [name, by, queue, skipped, answered] = [nextName, wanted, [], new Set(), new Set()];
      delete card.dataset.window;
      card.replaceChildren();
      order.value = wanted || "random";
      fetchMore();
    },
    enter() {
      entering = true;
    },
    /** Whether there is a tag to go by; drawing at random takes none. @param {boolean} learned */
    allow(learned) {
      for (const option of order.options) option.disabled = !learned && option.value !== "random";
    },
    /** A lesson has changed the order. */
    renew() {
      if (by && by !== "random") fetchMore();
    },
    /** A word was taken back: its window is asked about again. @param {Hit} hit */
    bring(hit) {
      if (!answered.delete(hit.window) || !by) return;
      queue = [hit, ...queue.filter((one) => one.window !== hit.window)];
      draw();
    },
    /** @param {(verdict: Element, word: any) => void} paint */
    mark(paint) {
      const hit = current();
      const shown = card.querySelector(".verdict");
      if (hit && shown) paint(shown, said(hit.window));
    },
  };
}
