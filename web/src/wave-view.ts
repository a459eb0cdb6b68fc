/** The sound: waveform, beats, sections and shots on one time line. */

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";
import WaveSurfer from "wavesurfer.js";
import MinimapPlugin from "wavesurfer.js/plugins/minimap";
import RegionsPlugin, { type Region } from "wavesurfer.js/plugins/regions";
import TimelinePlugin from "wavesurfer.js/plugins/timeline";
import ZoomPlugin from "wavesurfer.js/plugins/zoom";
import type { FileInfo, Peaks, Song } from "./api";
import { announce, Part, place } from "./base";
import { icon } from "./icons";
import { moved, SHORTEST, snap, stopOf, type Shot } from "./shots";
import { colour, theme } from "./theme";
import { clock } from "./words";

const HEIGHT = 112;
const MOST_ZOOM = 400; // pixels a second
const LETTERS = "ABCDEFGH";
const NUDGE_SECONDS = 0.1;
const POINTS_A_SECOND = 20;
const LEAST_POINTS = 1500;
const MOST_POINTS = 12_000;
const LONG_SECONDS = 90;
const FLAT = 0.008; // of the height, where nothing is heard or known

@customElement("wave-view")
export class WaveView extends Part {
  @property({ attribute: false }) declare sound: FileInfo;
  @property({ attribute: false }) declare outline: Peaks | null; // what there is of it
  @property({ attribute: false }) declare song: Song | null;
  @property({ type: Number }) declare start: number;
  @property({ type: Number }) declare stop: number;
  @property({ attribute: false }) declare shots: Shot[];
  @property({ type: Number }) declare selected: number;
  @property({ type: Boolean }) declare hasShots: boolean;
  @property({ type: Number }) declare sent: number; // share of the sound that is on the server
  @property({ type: Number }) declare heard: number; // share of it that has been listened to

  @state() declare private from: number;
  @state() declare private to: number;
  @state() declare private isPlaying: boolean;
  @state() declare private time: number;
  @state() declare private dragged: Shot[] | null;
  @query(".wave") declare private host: HTMLElement;
  @query("canvas.beats") declare private beats: HTMLCanvasElement;

  private surfer: WaveSurfer | null = null;
  private region: Region | null = null;
  private minimap: { destroy(): void } | null = null;
  private shown = "";
  private sized = new ResizeObserver(() => this.range());

  constructor() {
    super();
    this.song = this.outline = null;
    this.start = this.from = this.time = 0;
    this.stop = this.to = this.sent = 1;
    this.heard = 0;
    this.shots = [];
    this.selected = 0;
    this.hasShots = this.isPlaying = false;
    this.dragged = null;
    theme.addEventListener("change", () => this.paint());
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.sized.disconnect();
    this.surfer?.destroy();
    this.surfer = null;
    this.shown = "";
  }

  get seconds(): number {
    return this.sound.facts.sound?.seconds ?? 1;
  }

  override updated(changed: PropertyValues<this>): void {
    if (this.sound && this.shown !== key(this.sound)) this.create();
    else if (changed.has("outline")) this.drawPeaks();
    if (changed.has("start") || changed.has("stop")) this.placeRegion();
    if (changed.has("hasShots")) this.paint();
    this.drawBeats();
  }

  private create(): void {
    this.surfer?.destroy();
    this.shown = key(this.sound);
    const regions = RegionsPlugin.create();
    this.surfer = WaveSurfer.create({
      container: this.host,
      height: HEIGHT,
      url: this.sound.local ?? `/v1/files/${this.sound.id}/content`,
      peaks: this.peaks(),
      duration: this.seconds,
      barWidth: 2,
      barGap: 1.5,
      barRadius: 2,
      cursorWidth: 2,
      dragToSeek: false,
      autoCenter: false,
      hideScrollbar: false,
      ...this.colours(),
      plugins: [
        regions,
        TimelinePlugin.create({ height: 18, style: { fontSize: "11px" }, formatTimeCallback: (time) => clock(time, 0) }),
        ZoomPlugin.create({ exponentialZooming: true, maxZoom: MOST_ZOOM }),
      ],
    });
    const surfer = this.surfer;
    // a turning wheel scrolls the page; with Ctrl, or as a pinch, it zooms
    this.host.addEventListener("wheel", (event) => !event.ctrlKey && event.stopPropagation(), { capture: true });
    surfer.on("ready", () => {
      this.placeMinimap();
      this.drawPeaks();
      this.region = regions.addRegion({ start: this.start, end: this.stop, drag: true, resize: true, minLength: SHORTEST });
      this.paint();
      this.range();
    });
    surfer.on("scroll", () => this.range());
    surfer.on("zoom", () => requestAnimationFrame(() => this.range()));
    surfer.on("redraw", () => this.range());
    surfer.on("play", () => (this.isPlaying = true));
    surfer.on("pause", () => (this.isPlaying = false));
    surfer.on("timeupdate", (time) => (this.time = time));
    surfer.on("error", () => undefined); // a sound that no browser plays is rendered all the same
    regions.on("region-updated", (region) => this.chooseRegion(region));
    this.sized.disconnect();
    this.sized.observe(this.host);
  }

  /** Highest and lowest samples from beginning to end, the loudest as 1; a flat line where they are not known yet. */
  private peaks(): Float32Array[] {
    const { peaks = [], per_second = 1 } = this.outline ?? {};
    const most = peaks.reduce((found, [low, high]) => Math.max(found, -low, high), FLAT);
    const count = Math.round(Math.min(MOST_POINTS, Math.max(LEAST_POINTS, this.seconds * POINTS_A_SECOND)));
    const step = (this.seconds * per_second) / count;
    const sample = (which: 0 | 1, index: number) => {
      const at = Math.floor(index * step);
      const here = peaks[at]?.[which] ?? 0;
      return (here + ((peaks[at + 1]?.[which] ?? here) - here) * (index * step - at)) / most;
    };
    return [
      Float32Array.from({ length: count }, (_, index) => Math.max(FLAT, sample(1, index))),
      Float32Array.from({ length: count }, (_, index) => Math.min(-FLAT, sample(0, index))),
    ];
  }

  /** In place: its media and its zoom stay as they are. */
  private drawPeaks(): void {
    const drawn = this.surfer?.getDecodedData();
    if (!drawn) return;
    this.peaks().forEach((values, channel) => drawn.getChannelData(channel).set(values));
    this.surfer!.setOptions({});
    if (this.outline?.is_whole) this.placeMinimap();
  }

  /** Of a long sound; it copies what is drawn, and is made anew when that is whole. */
  private placeMinimap(): void {
    if (this.seconds < LONG_SECONDS) return;
    const dim = colour("wave-dim");
    this.minimap?.destroy();
    this.minimap = this.surfer!.registerPlugin(
      MinimapPlugin.create({
        height: 26, barHeight: 1, waveColor: dim, progressColor: dim, overlayColor: colour("minimap"), insertPosition: "beforebegin",
      }),
    );
  }

  private colours(): { waveColor: string; progressColor: string; cursorColor: string } {
    return { waveColor: colour("wave"), progressColor: colour("wave-played"), cursorColor: colour("text") };
  }

  private paint(): void {
    this.surfer?.setOptions(this.colours());
    this.region?.setOptions({ color: colour(this.hasShots ? "region-board" : "region") });
    this.drawBeats();
  }

  private chooseRegion(region: Region): void {
    const reach = (this.to - this.from) / 80;
    const times = this.song?.beats ?? [];
    const snapped = (time: number) => Math.min(this.seconds, Math.max(0, snap(time, times, reach)));
    let [start, stop] = [snapped(region.start), snapped(region.end)];
    if (stop - start < SHORTEST) [start, stop] = [region.start, region.end];
    this.placeRegion(start, stop);
    this.emit("region", { start, stop });
  }

  private placeRegion(start = this.start, stop = this.stop): void {
    const region = this.region;
    if (region && (region.start !== start || region.end !== stop)) region.setOptions({ start, end: stop });
  }

  /** What of the sound is on the screen. */
  private range(): void {
    const surfer = this.surfer;
    if (!surfer) return;
    const width = surfer.getWrapper().clientWidth || 1;
    const scroll = surfer.getScroll();
    const from = (scroll / width) * this.seconds;
    const to = Math.min(this.seconds, ((scroll + surfer.getWidth()) / width) * this.seconds);
    if (from !== this.from || to !== this.to) [this.from, this.to] = [from, to];
  }

  private zoom(factor: number): void {
    const surfer = this.surfer;
    if (!surfer) return;
    const now = surfer.getWrapper().clientWidth / this.seconds;
    const least = surfer.getWidth() / this.seconds;
    const next = Math.min(MOST_ZOOM, Math.max(least, now * factor));
    const middle = this.isPlaying || (this.time >= this.from && this.time <= this.to) ? this.time : (this.from + this.to) / 2;
    surfer.zoom(factor === 0 ? 0 : next);
    surfer.setScrollTime(Math.max(0, middle - surfer.getWidth() / next / 2));
    requestAnimationFrame(() => this.range());
  }

  private share(time: number): string {
    return `${((time - this.from) / Math.max(1e-6, this.to - this.from)) * 100}%`;
  }

  private span(start: number, stop: number): Record<string, string> {
    return { left: this.share(start), width: `calc(${this.share(stop)} - ${this.share(start)})` };
  }

  private isSeen(start: number, stop: number): boolean {
    return stop >= this.from && start <= this.to;
  }

  private drawBeats(): void {
    const canvas = this.beats;
    if (!canvas || !canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1;
    [canvas.width, canvas.height] = [canvas.clientWidth * ratio, canvas.clientHeight * ratio];
    const context = canvas.getContext("2d")!;
    const scale = canvas.width / Math.max(1e-6, this.to - this.from);
    const draw = (times: readonly number[], height: number, style: string) => {
      context.fillStyle = style;
      const seen = times.filter((time) => time >= this.from && time <= this.to);
      if (seen.length * 3 * ratio > canvas.width) return; // closer than can be seen
      for (const time of seen) context.fillRect((time - this.from) * scale, canvas.height - height * ratio, ratio * 1.5, height * ratio);
    };
    draw(this.song?.beats ?? [], 5, colour("beat"));
    draw(this.song?.downbeats ?? [], 10, colour("downbeat"));
  }

  override render(): TemplateResult {
    const shots = this.dragged ?? this.shots;
    return html`
      <div class="wave" role="img" aria-label="Waveform of ${this.sound.filename}, ${clock(this.seconds)} long"></div>
      <div class="lanes">
        <canvas class="beats" aria-hidden="true"></canvas>
        ${this.song
          ? html`<ol class="lane sections" aria-label="Sections of the song">
              ${this.song.sections
                .filter((one) => this.isSeen(one.start, one.stop))
                .map(
                  (one) => html`<li
                    class="section tone-${Math.max(0, LETTERS.indexOf(one.letter)) % 6}"
                    ${place(this.span(one.start, one.stop))}
                    title="${one.name} ${clock(one.start)}–${clock(one.stop)}"
                  >
                    <button class="plain" @click=${() => this.emit("section", one)}>${one.name}</button>
                  </li>`,
                )}
            </ol>`
          : html`<p class="lane listening" role="status"><span class="spinner" aria-hidden="true"></span>${this.doing()}</p>`}
        ${this.hasShots ? this.shotLane(shots) : nothing}
      </div>
      <div class="transport">
        <button class="primary round" @click=${() => void this.surfer?.playPause()} aria-label=${this.isPlaying ? "Pause" : "Play"}>
          ${icon(this.isPlaying ? "pause" : "play")}
        </button>
        <button class="quiet" @click=${this.playPart}>Play ${this.hasShots ? "shot" : "part"}</button>
        <output class="time" aria-label="Position">${clock(this.time)} <span class="muted">/ ${clock(this.seconds)}</span></output>
        ${this.song && this.song.tempo_bpm > 0
          ? html`<span class="chip">${Math.round(this.song.tempo_bpm)} bpm${this.song.meter ? ` · ${this.song.meter}` : ""}</span>`
          : nothing}
        <span class="grow"></span>
        <span class="group" role="group" aria-label="Zoom">
          <button class="quiet round" @click=${() => this.zoom(1 / 1.8)} aria-label="Zoom out">${icon("minus")}</button>
          <button class="quiet round" @click=${() => this.zoom(0)} aria-label="Whole sound">${icon("fit")}</button>
          <button class="quiet round" @click=${() => this.zoom(1.8)} aria-label="Zoom in">${icon("plus")}</button>
        </span>
      </div>
    `;
  }

  private doing(): string {
    if (this.sent < 1) return `Sending, ${Math.floor(this.sent * 100)} %. You can go on meanwhile.`;
    if (!this.outline?.is_whole) return "Drawing the waveform";
    if (this.heard < 1) return `Listening for beats and sections, ${Math.floor(this.heard * 100)} %`;
    return "Finding beats and sections in what was heard";
  }

  private playPart(): void {
    const shot = this.shots[this.selected];
    if (this.hasShots && shot) void this.surfer?.play(shot.start, stopOf(this.shots, this.selected, this.stop));
    else void this.surfer?.play(this.start, this.stop);
  }

  private shotLane(shots: readonly Shot[]): TemplateResult {
    return html`<div class="lane shots" role="group" aria-label="Shots">
      ${shots.map((shot, index) => {
        const stop = stopOf(shots, index, this.stop);
        if (!this.isSeen(shot.start, stop)) return nothing;
        const name = shot.name || `Shot ${index + 1}`;
        return html`
          <button
            class="shot"
            aria-pressed=${index === this.selected}
            aria-label="${name}, ${clock(shot.start)} to ${clock(stop)}"
            ${place(this.span(shot.start, stop))}
            @click=${() => this.emit("select", index)}
            @dblclick=${(event: MouseEvent) => this.emit("split", this.timeAt(event))}
          >
            <span>${shot.name || index + 1}</span>
          </button>
          ${index ? this.handle(shots, shot, index) : nothing}
        `;
      })}
    </div>`;
  }

  private handle(shots: readonly Shot[], shot: Shot, index: number): TemplateResult {
    return html`<span
      class="handle ${shot.cut}"
      role="slider"
      tabindex="0"
      aria-label="Cut before shot ${index + 1}"
      aria-valuemin=${shots[index - 1]!.start.toFixed(2)}
      aria-valuemax=${stopOf(shots, index, this.stop).toFixed(2)}
      aria-valuenow=${shot.start.toFixed(2)}
      aria-valuetext=${clock(shot.start, 2)}
      ${place({ left: this.share(shot.start) })}
      @pointerdown=${(event: PointerEvent) => this.drag(event, index)}
      @keydown=${(event: KeyboardEvent) => this.key(event, index)}
    ></span>`;
  }

  private timeAt(event: MouseEvent): number {
    const box = this.querySelector(".lanes")!.getBoundingClientRect();
    const time = this.from + ((event.clientX - box.left) / box.width) * (this.to - this.from);
    return event.shiftKey ? time : snap(time, this.song?.beats ?? [], (this.to - this.from) / 60);
  }

  private drag(event: PointerEvent, index: number): void {
    const handle = event.currentTarget as HTMLElement;
    event.preventDefault();
    handle.focus();
    handle.setPointerCapture(event.pointerId);
    const move = (next: PointerEvent) => {
      this.dragged = moved(this.shots, index, this.timeAt(next), this.stop);
    };
    const end = () => {
      handle.removeEventListener("pointermove", move);
      const shots = this.dragged;
      this.dragged = null;
      if (shots) this.emit("shots", shots);
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("lostpointercapture", end, { once: true });
  }

  /** Arrows go from beat to beat, with Shift a tenth of a second; Delete takes the cut away. */
  private key(event: KeyboardEvent, index: number): void {
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.emit("merge", index);
      return;
    }
    const direction = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    const now = this.shots[index]!.start;
    const beats = event.shiftKey ? [] : (this.song?.beats ?? []);
    const next = direction > 0 ? beats.find((beat) => beat > now + 0.01) : beats.findLast((beat) => beat < now - 0.01);
    const shots = moved(this.shots, index, next ?? now + direction * NUDGE_SECONDS, this.stop);
    announce(clock(shots[index]!.start, 2));
    this.emit("shots", shots);
  }
}

function key(sound: FileInfo): string {
  return sound.local ?? sound.id;
}
