// @ts-check
/** What is heard and recorded: the one audio element, and the microphone. */

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

/** Samples per channel of which a level is taken. */
const LEVEL_SAMPLES = 1024;

/** Why there is no microphone, as a sentence, or null where there may be one. */
export const whyNoMicrophone = () =>
  navigator.mediaDevices ? null : "A browser records only on this computer's own address or with https: choose a file instead.";

/** From the microphone to 16-bit WAV, which every server reads: what browsers record differs from one to the next. */
export class Recorder {
  /** @type {MediaRecorder | null} */
  recorder = null;
  /** @type {AudioContext | null} */
  context = null;
  /** @type {Blob[]} */
  pieces = [];
  began = 0;

  /** @param {(level: number, seconds: number) => void} show called each frame, the level from 0 to 1 */
  async start(show) {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
    this.context = new AudioContext();
    const meter = this.context.createAnalyser();
    meter.fftSize = LEVEL_SAMPLES;
    this.context.createMediaStreamSource(stream).connect(meter);
    this.pieces = [];
    const recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (event) => this.pieces.push(event.data));
    recorder.start();
    this.recorder = recorder;
    this.began = performance.now();
    const samples = new Float32Array(LEVEL_SAMPLES);
    const look = () => {
      if (recorder.state !== "recording") return;
      meter.getFloatTimeDomainData(samples);
      // The cube root shows quiet sounds too, much as decibels would.
      show(Math.cbrt(samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0)), (performance.now() - this.began) / 1000);
      requestAnimationFrame(look);
    };
    look();
  }

  /** End the recording and let go of the microphone. @returns {Promise<Blob>} WAV */
  async stop() {
    const { recorder, context } = this;
    if (!recorder || !context) throw new Error("Nothing is being recorded.");
    const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
    recorder.stop();
    await ended;
    for (const track of recorder.stream.getTracks()) track.stop();
    this.recorder = null;
    const sound = await context.decodeAudioData(await new Blob(this.pieces).arrayBuffer());
    await context.close();
    return toWav(sound);
  }

  async cancel() {
    if (this.recorder?.state === "recording") this.recorder.stop();
    for (const track of this.recorder?.stream.getTracks() ?? []) track.stop();
    this.recorder = null;
    await this.context?.close();
  }
}

/** @param {AudioBuffer} sound @returns {Blob} WAV of 16-bit samples, one or two channels */
export function toWav(sound) {
  const channels = Math.min(2, sound.numberOfChannels);
  const bytes = sound.length * channels * 2;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const text = (at, letters) => [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  text(8, "WAVEfmt ");
  text(36, "data");
  const { sampleRate } = sound;
  for (const [at, number] of [[4, 36 + bytes], [16, 16], [24, sampleRate], [28, sampleRate * channels * 2], [40, bytes]]) view.setUint32(at, number, true);
  for (const [at, number] of [[20, 1], [22, channels], [32, channels * 2], [34, 16]]) view.setUint16(at, number, true);
  for (let channel = 0; channel < channels; channel += 1) {
    const samples = sound.getChannelData(channel);
    for (let index = 0; index < samples.length; index += 1) {
      view.setInt16(44 + (index * channels + channel) * 2, Math.round(Math.max(-1, Math.min(1, samples[index])) * 32767), true);
    }
  }
  return new Blob([view], { type: "audio/wav" });
}
