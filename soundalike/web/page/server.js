// @ts-check
/** Asking the server: errors as sentences, patience where it is busy or gone, addresses of sound and pictures. */

/** @typedef {import("./address.js").Example} Example */

import { emit, visible } from "./dom.js";

/** The server said no, and why. */
export class Failure extends Error {
  /** @param {string} sentence @param {number} status @param {string | null} about @param {[number, number] | null} at */
  constructor(sentence, status, about = null, at = null) {
    // The server's sentences begin small, as in a terminal; names of files that they begin with stay as they are.
    super(sentence.split("\n").map(visible).join("\n").replace(/^[a-z]+ (?!.*\.[a-z]\w*[: ])/, (word) => word[0].toUpperCase() + word.slice(1)));
    this.status = status;
    this.about = about;
    this.at = at;
  }
}

/** @typedef {{kind: "busy" | "gone", left: number, wake: () => void}} Waiter */

/** Requests that wait for the server to have time, or to be there; `change` tells of each second. */
class Line extends EventTarget {
  /** @type {Set<Waiter>} */
  waiters = new Set();

  /**
   * @param {"busy" | "gone"} kind @param {number} seconds @param {AbortSignal} [signal]
   * @returns {Promise<void>} after so long or when woken; rejected when aborted
   */
  wait(kind, seconds, signal) {
    return new Promise((resolve, reject) => {
      const waiter = { kind, left: Math.max(1, Math.ceil(seconds)), wake: () => end(resolve) };
      const tick = setInterval(() => {
        waiter.left -= 1;
        if (waiter.left <= 0) waiter.wake();
        else this.tell();
      }, 1000);
      const end = (/** @type {(reason?: any) => void} */ settle) => {
        clearInterval(tick);
        signal?.removeEventListener("abort", stop);
        this.waiters.delete(waiter);
        this.tell();
        settle(signal?.reason);
      };
      const stop = () => end(reject);
      signal?.addEventListener("abort", stop);
      this.waiters.add(waiter);
      this.tell();
    });
  }

  tell() {
    emit(this, "change");
  }
}

export const line = new Line();

/** The longest wait between two tries where nobody answers, in seconds. */
const LONGEST_WAIT_S = 10;

/**
 * @param {string} path @param {RequestInit} [how]
 * @returns {Promise<Response>} an answer that is fine; a busy or absent server is asked again until the signal says stop
 * @throws {Failure} whatever else the server answers
 */
export async function ask(path, how = {}) {
  const signal = how.signal ?? undefined;
  for (let tries = 0; ; tries += 1) {
    let answer;
    try {
      answer = await fetch(path, { credentials: "same-origin", ...how });
    } catch (error) {
      if (signal?.aborted) throw error;
      await line.wait("gone", Math.min(LONGEST_WAIT_S, 2 ** (tries + 1)), signal);
      continue;
    }
    if (answer.status === 503) {
      await line.wait("busy", Number(answer.headers.get("Retry-After")) || 2, signal);
      continue;
    }
    if (answer.ok) return answer;
    throw await failed(answer);
  }
}

/** @param {Response} answer */
async function failed(answer) {
  const said = await answer.json().catch(() => ({}));
  const sentence = typeof said.detail === "string" ? said.detail : `The server answered ${answer.status} ${answer.statusText}.`;
  return new Failure(sentence, answer.status, said.about ?? null, said.at ?? null);
}

/** @param {string} path @param {RequestInit} [how] @returns {Promise<any>} */
export const json = async (path, how) => (await ask(path, how)).json();

/** @param {string} path @param {object} body @param {AbortSignal} [signal] */
export const post = (path, body, signal) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

/** What is refused now and may be taken later: by a server that knows this page not, as it was started anew, or that has a fault. @param {unknown} error */
const mayPass = (error) => error instanceof Failure && ([401, 403].includes(error.status) || error.status >= 500);
/** It is sent again after so long, in milliseconds, or when somebody comes back to the page. */
const AGAIN_MS = 5000;

/**
 * Send what must not be lost, again and again.
 * @param {string} path @param {object} body @param {(why: string) => void} tell hears why it waits, and nothing once it does no more
 * @throws {Failure} what will always be refused
 */
export async function postAtLast(path, body, tell) {
  for (;;) {
    try {
      const answer = await post(path, body);
      tell("");
      return answer;
    } catch (error) {
      if (!mayPass(error)) {
        tell("");
        throw error;
      }
      tell(/** @type {Error} */ (error).message);
      await new Promise((resolve) => {
        setTimeout(resolve, AGAIN_MS);
        window.addEventListener("focus", resolve, { once: true });
      });
    }
  }
}

/** @param {Blob} sound @param {string} name @param {AbortSignal} signal */
export function upload(sound, name, signal) {
  const form = new FormData();
  form.append("file", sound, name);
  return json("/api/v1/clips", { method: "POST", body: form, signal });
}

/** @param {Record<string, any>} fields without a value are left out */
function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? "?" + new URLSearchParams(given.map(([name, value]) => [name, String(value)])) : "";
}

/** @param {{kind: string, id: string}} example */
const placeOf = ({ kind, id }) => `/api/v1/${kind === "w" ? "windows" : "clips"}/${encodeURIComponent(id)}`;

/** @param {{kind: string, id: string}} example @param {number} [start_s] @param {number} [end_s] */
export const audioOf = (example, start_s, end_s) => placeOf(example) + "/audio" + query({ start_s, end_s });

/** @param {{kind: string, id: string}} example @param {Record<string, number>} fields */
export const pictureOf = (example, fields) => placeOf(example) + "/spectrogram" + query(fields);

/** @typedef {{name: string, path: string, duration: number, offset: number, there: boolean, peaks: [number, number][], tags: {name: string, probability: number}[], warnings: string[]}} About */

/** @type {Map<string, Promise<About>>} */
const known = new Map();

/**
 * What an example is; asked once.
 * @param {{kind: string, id: string}} example
 * @returns {Promise<About>} with `offset`, where its second 0 lies in its file
 */
export function aboutOf(example) {
  const key = `${example.kind}:${example.id}`;
  if (!known.has(key)) {
    const asked = example.kind === "w" ? aboutWindow(example) : json(placeOf(example)).then(aboutClip);
    known.set(key, asked);
    asked.catch(() => known.delete(key));
  }
  return /** @type {Promise<About>} */ (known.get(key));
}

/** @param {any} clip as the server tells of it @returns {About} */
export function aboutClip(clip) {
  const about = { name: visible(clip.name), path: "", duration: clip.duration_s, offset: 0, there: true, peaks: clip.peaks, tags: clip.tags, warnings: clip.warnings.map(visible) };
  known.set(`c:${clip.id}`, Promise.resolve(about));
  return about;
}

/** An uploaded clip that is no longer kept must not be shown from memory. @param {string} id */
export const forgetClip = (id) => known.delete(`c:${id}`);

/** @param {{kind: string, id: string}} example @returns {Promise<About>} */
async function aboutWindow(example) {
  const window = await json(placeOf(example));
  const heard = window.is_there ? await json(placeOf(example) + "/peaks?num=1000").catch(() => null) : null;
  return {
    name: visible(window.name ?? `window ${window.window}`), path: visible(window.path ?? ""), duration: heard?.duration_s ?? window.end_s - window.start_s, offset: window.start_s,
    there: heard !== null, peaks: heard?.peaks ?? [], tags: window.tags, warnings: [],
  };
}
