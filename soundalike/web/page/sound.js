// @ts-check
/** What is heard: the one audio element. */

import { emit } from "./dom.js";
import { ask } from "./server.js";

/** `change`: something else plays, or nothing; `time`: each frame while it does; `failed`: `failure` has key and reason. */
class Player extends EventTarget {
  audio = new Audio();
  /** What is loaded: "hit:ID" or "example:INDEX". */
  key = "";
  /** Where second 0 of what is loaded lies in what is shown. */
  from = 0;
  /** @type {{key: string, status: number, sentence: string}} */
  failure = { key: "", status: 0, sentence: "" };
  /** What was tried once more: a busy server refuses a sound that it has. */
  again = "";

  constructor() {
    super();
    this.audio.preload = "auto";
    for (const name of ["play", "pause", "ended"]) this.audio.addEventListener(name, () => emit(this, "change"));
    this.audio.addEventListener("playing", () => this.follow());
    this.audio.addEventListener("error", () => this.explain());
  }

  get playing() {
    return Boolean(this.key) && !this.audio.paused && !this.audio.ended;
  }

  /** Seconds in what is shown. */
  get time() {
    return this.from + this.audio.currentTime;
  }

  /**
   * @param {string} key @param {string} address of the sound
   * @param {{from?: number, at?: number}} [where] `from`: where the sound begins in what is shown; `at`: where to begin
   */
  play(key, address, { from = 0, at = from } = {}) {
    const source = new URL(address, location.href).href;
    if (this.audio.src !== source || this.audio.error) this.audio.src = source;
    this.key = key;
    this.from = from;
    this.audio.currentTime = Math.max(0, at - from);
    this.audio.play().catch(() => undefined);
    emit(this, "change");
  }

  /** @param {string} key @param {string} address @param {{from?: number}} [where] */
  toggle(key, address, where) {
    if (this.key === key && this.playing) this.stop();
    else this.play(key, address, where);
  }

  stop() {
    this.audio.pause();
    this.key = "";
    emit(this, "change");
  }

  follow() {
    emit(this, "time");
    if (this.playing) requestAnimationFrame(() => this.follow());
  }

  /** An audio element does not say why: ask for the first byte once more and read what the server says. */
  async explain() {
    const { key } = this;
    const source = this.audio.src;
    if (!key) return;
    this.key = "";
    emit(this, "change");
    const [status, sentence] = await ask(source, { headers: { Range: "bytes=0-0" } }).then(
      () => [0, "This browser cannot play the sound."],
      (error) => [error.status ?? 0, error.message],
    );
    if (!status && this.again !== source && !this.key) {
      this.again = source;
      return this.play(key, source, { from: this.from });
    }
    this.failure = { key, status: Number(status), sentence: String(sentence) };
    emit(this, "failed");
  }
}

export const player = new Player();

/** Why there is no microphone, as a sentence, or null where there may be one. */
export const whyNoMicrophone = () =>
  navigator.mediaDevices ? null : "A browser records only on this computer's own address or with https: choose a file instead.";
