/** A new video: sound, picture, words, shape, quality; and what it will take. */

import { html, nothing, svg, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { ApiError, ask, upload, type EngineFact, type FileInfo, type Models, type Peaks, type Plan, type Song, type Video } from "./api";
import { announce, Part, place } from "./base";
import { draft, LEAST_SECONDS, toRequest, type Mode } from "./draft";
import { icon } from "./icons";
import { jobs } from "./jobs";
import { LOOKS, QUALITIES, SHAPES, sizeOf } from "./quality";
import { merged, propose, split, stopOf, within, type Shot } from "./shots";
import { bytes, clock, duration, many, parseClock } from "./words";
import "./picture-view";
import "./storyboard-tools";
import "./wave-view";

const PLAN_AFTER_MS = 250;
const SOUNDS = "audio/*,video/*,.flac,.opus,.m4a,.aiff,.mka";

/** Fields of errors → the part of the page that they stand under. */
const PARTS: [RegExp, string][] = [
  [/^audio|^file$/, "sound"],
  [/^window|^cuts/, "part"],
  [/^shots/, "shots"],
  [/^ref_image|^input_reference/, "picture"],
  [/^prompt|^mood/, "prompt"],
  [/^negative/, "negative"],
  [/^seed/, "seed"],
  [/^(width|height|size|sampling|preset)/, "quality"],
  [/^(model|engine|compute|server|loras|workflow)/, "engine"],
];

function partOf(field: string | null): string {
  return PARTS.find(([pattern]) => field && pattern.test(field))?.[1] ?? "render";
}

@customElement("new-view")
export class NewView extends Part {
  @property() declare wish: string;
  @state() declare private sending: { name: string; share: number } | null;
  @state() declare private isOver: boolean;
  @state() declare private errors: Record<string, string>;
  @state() declare private outline: Peaks | null;
  @state() declare private song: Song | null;
  @state() declare private plan: Plan | null;
  @state() declare private isPlanning: boolean;
  @state() declare private isAsking: boolean;
  @state() declare private selected: number;
  @state() declare private models: Models | null;
  @state() declare private engines: EngineFact[];

  private heard = "";
  private planned = "";
  private timer = 0;
  private asking: AbortController | null = null;

  constructor() {
    super();
    this.wish = "";
    this.sending = this.outline = this.song = this.plan = this.models = null;
    this.isOver = this.isPlanning = this.isAsking = false;
    this.errors = {};
    this.selected = 0;
    this.engines = [];
    this.watch(draft);
  }

  override connectedCallback(): void {
    super.connectedCallback();
    void ask<Models>("GET", "/v1/models").then((found) => (this.models = found), () => undefined);
    void ask<{ data: EngineFact[] }>("GET", "/v1/engines").then((found) => (this.engines = found.data), () => undefined);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearTimeout(this.timer);
    this.asking?.abort();
  }

  override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("wish") && this.wish === "demo") void this.demo();
  }

  override updated(): void {
    const { sound } = draft.now;
    if (sound && this.heard !== sound.id) void this.listen(sound);
    this.planSoon();
  }

  // the sound

  private async demo(): Promise<void> {
    history.replaceState(null, "", "#new");
    this.errors = {};
    try {
      const { audio, ref_image } = await ask<{ audio: FileInfo; ref_image: FileInfo }>("POST", "/v1/demo");
      draft.open(audio);
      draft.set({ picture: ref_image, prompt: EXAMPLE_WORDS });
    } catch (error) {
      this.fail(error, "sound");
    }
  }

  private async send(file: File | undefined): Promise<void> {
    if (!file) return;
    this.errors = {};
    this.sending = { name: file.name, share: 0 };
    announce(`Sending ${file.name}`);
    try {
      const info = await upload(file, (share) => (this.sending = { name: file.name, share }));
      if (info.facts.sound) draft.open(info);
      else this.errors = { sound: `${info.filename} is a ${info.kind} without sound: drop a song, or a video with sound.` };
    } catch (error) {
      this.fail(error, "sound");
    } finally {
      this.sending = null;
    }
  }

  private async listen(sound: FileInfo): Promise<void> {
    this.heard = sound.id;
    this.outline = this.song = null;
    try {
      this.outline = await ask<Peaks>("GET", `/v1/files/${sound.id}/peaks`);
      const song = await ask<Song>("GET", `/v1/files/${sound.id}/analysis`);
      if (this.heard !== sound.id) return;
      this.song = song;
      draft.suggest(song);
      announce(`${song.sections.length} sections, ${Math.round(song.tempo_bpm)} beats a minute`);
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) draft.set({ sound: null }); // it was removed: begin anew
      else this.fail(error, "sound");
    }
  }

  private fail(error: unknown, otherwise = "render"): void {
    const message = inWordsOfThePage(error instanceof Error ? error.message : String(error));
    const part = error instanceof ApiError && error.field ? partOf(error.field) : otherwise;
    this.errors = { ...this.errors, [part]: message };
  }

  // the plan

  private planSoon(): void {
    if (!draft.now.sound) return;
    const wanted = JSON.stringify(toRequest(draft.now));
    if (wanted === this.planned) return;
    this.planned = wanted;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.ask(wanted), PLAN_AFTER_MS);
  }

  private async ask(wanted: string): Promise<void> {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.isPlanning = true;
    try {
      this.plan = await ask<Plan>("POST", "/v1/plan", JSON.parse(wanted), asking.signal);
      this.errors = {};
    } catch (error) {
      if (asking.signal.aborted) return;
      this.plan = null;
      this.errors = {};
      if (!(error instanceof ApiError && error.status === 0)) this.fail(error);
      else this.planned = "";
    }
    this.isPlanning = false;
  }

  private async render_(): Promise<void> {
    if (this.isAsking) return;
    this.isAsking = true;
    try {
      const video = await ask<Video>("POST", "/v1/videos", toRequest(draft.now));
      jobs.put(video);
      location.hash = "queue";
    } catch (error) {
      this.errors = {};
      this.fail(error);
    } finally {
      this.isAsking = false;
    }
  }

  // the page

  override render(): TemplateResult {
    const { sound } = draft.now;
    return html`<div
      class="new ${this.isOver ? "over" : ""}"
      @dragover=${(event: DragEvent) => (event.preventDefault(), (this.isOver = true))}
      @dragleave=${(event: DragEvent) => !this.contains(event.relatedTarget as Node | null) && (this.isOver = false)}
      @drop=${(event: DragEvent) => {
        event.preventDefault();
        this.isOver = false;
        void this.send(event.dataTransfer?.files[0]);
      }}
    >
      ${sound ? this.workspace(sound) : this.welcome()}
    </div>`;
  }

  private welcome(): TemplateResult {
    return html`<section class="welcome">
      <h1>A video that moves with your song</h1>
      <p class="lead muted">Drop a song. Choose a part, add a picture and a few words, and watch it come.</p>
      <label class="drop">
        <input class="unseen" type="file" accept=${SOUNDS} aria-label="Choose a song" aria-describedby="sound-error" @change=${this.choose} />
        <svg class="drop-wave" viewBox="0 0 240 56" aria-hidden="true">
          ${DROP_BARS.map((height, index) => svgBar(index, height))}
        </svg>
        ${this.sending
          ? html`<strong>Sending ${this.sending.name}</strong><progress max="1" value=${this.sending.share} aria-label="Sent"></progress>`
          : html`<strong>Drop a song here, or choose one</strong><span class="muted">mp3, wav, flac, m4a, ogg, or a video with sound</span>`}
      </label>
      ${this.errorOf("sound")}
      <p class="muted">
        Nothing at hand? <button class="link" @click=${() => void this.demo()}>Open the example song</button>
      </p>
    </section>`;
  }

  private choose(event: Event): void {
    const input = event.target as HTMLInputElement;
    void this.send(input.files?.[0]).then(() => (input.value = ""));
  }

  private workspace(sound: FileInfo): TemplateResult {
    const now = draft.now;
    return html`
      <h1 class="unseen">New video</h1>
      <div class="columns">
        <div class="column">
      <section class="card sound" aria-label="Sound">
        <header class="row">
          <h2 class="ellipsis grow">${sound.filename}</h2>
          ${this.sending ? html`<progress class="thin" max="1" value=${this.sending.share} aria-label="Sent"></progress>` : nothing}
          <label class="button quiet">
            <input class="unseen" type="file" accept=${SOUNDS} aria-label="Choose another song" aria-describedby="sound-error" @change=${this.choose} />Change
          </label>
        </header>
        ${this.errorOf("sound")}
        ${this.outline
          ? html`<wave-view
              .sound=${sound}
              .outline=${this.outline}
              .song=${this.song}
              .start=${now.start}
              .stop=${now.stop}
              .shots=${now.shots}
              .selected=${Math.min(this.selected, now.shots.length - 1)}
              .hasShots=${now.mode === "storyboard"}
              @region=${(event: CustomEvent<{ start: number; stop: number }>) => this.setPart(event.detail.start, event.detail.stop)}
              @section=${(event: CustomEvent<{ start: number; stop: number }>) => this.chooseSection(event.detail)}
              @shots=${(event: CustomEvent<Shot[]>) => draft.set({ shots: event.detail })}
              @select=${(event: CustomEvent<number>) => (this.selected = event.detail)}
              @split=${(event: CustomEvent<number>) => this.split(event.detail)}
              @merge=${(event: CustomEvent<number>) => this.merge(event.detail)}
            ></wave-view>`
          : html`<div class="wave-waiting" role="status"><span class="spinner" aria-hidden="true"></span>Opening the sound</div>`}
        ${this.partRow()}
      </section>
          ${now.mode === "storyboard" ? this.shotCard() : nothing}
          ${this.lookCard()}
        </div>
        <aside class="column side" aria-label="Output">${this.outputCard()}</aside>
      </div>
    `;
  }

  private partRow(): TemplateResult {
    const { mode, start, stop } = draft.now;
    return html`<div class="part row wrap">
      <div class="segments" role="group" aria-label="What to make">
        ${this.segment("part", "One take", mode)}${this.segment("storyboard", "Storyboard", mode)}
      </div>
      ${this.timeField("start", "From", start)} ${this.timeField("stop", "to", stop)}
      <span class="muted nowrap">${clock(stop - start)} long</span>
      <span class="grow"></span>
      <button class="quiet" @click=${() => this.setPart(0, this.outline?.seconds ?? stop)}>Whole song</button>
    </div>
    ${this.errorOf("part")}`;
  }

  private segment(mode: Mode, name: string, now: Mode): TemplateResult {
    return html`<button aria-pressed=${mode === now} @click=${() => this.setMode(mode)}>${name}</button>`;
  }

  private timeField(which: "start" | "stop", name: string, value: number): TemplateResult {
    return html`<label class="inline">${name}
      <input
        class="time" inputmode="decimal" .value=${clock(value, 2)} aria-describedby="part-error"
        @change=${(event: Event) => this.type(which, event.target as HTMLInputElement)}
      /></label>`;
  }

  private type(which: "start" | "stop", input: HTMLInputElement): void {
    const time = parseClock(input.value);
    if (Number.isNaN(time)) {
      this.errors = { part: `“${input.value}” is no time: expected seconds, or as 1:23.5` };
      return;
    }
    const { start, stop } = draft.now;
    const [from, to] = which === "start" ? [time, Math.max(stop, time + LEAST_SECONDS)] : [start, time];
    this.setPart(from, to);
    input.value = clock(draft.now[which], 2);
  }

  private setPart(start: number, stop: number): void {
    const seconds = this.outline?.seconds ?? stop;
    const from = Math.min(Math.max(0, start), Math.max(0, seconds - LEAST_SECONDS));
    const to = Math.min(seconds, Math.max(stop, from + LEAST_SECONDS));
    draft.set({ start: from, stop: to, shots: draft.now.mode === "storyboard" ? within(draft.now.shots, from, to) : [] });
  }

  private chooseSection(section: { start: number; stop: number }): void {
    const { mode, shots } = draft.now;
    if (mode === "part") this.setPart(section.start, section.stop);
    else this.selected = Math.max(0, shots.findLastIndex((shot) => shot.start <= section.start + 0.25));
  }

  private setMode(mode: Mode): void {
    if (mode === draft.now.mode) return;
    if (mode === "part") {
      const shot = draft.now.shots[this.selected];
      const stop = shot ? stopOf(draft.now.shots, this.selected, draft.now.stop) : draft.now.stop;
      draft.set({ mode, start: shot?.start ?? draft.now.start, stop, shots: [] });
      return;
    }
    const seconds = this.outline?.seconds ?? draft.now.stop;
    this.selected = 0;
    draft.set({ mode, start: 0, stop: seconds, shots: propose(this.song, 0, seconds) });
  }

  // shots

  private split(time: number): void {
    const shots = split(draft.now.shots, time, draft.now.stop);
    this.selected = Math.max(0, shots.findLastIndex((shot) => shot.start <= time));
    draft.set({ shots });
  }

  private merge(index: number): void {
    const shots = merged(draft.now.shots, index);
    this.selected = Math.max(0, Math.min(index, shots.length) - 1);
    draft.set({ shots });
    announce(`${many(shots.length, "shot")}`);
  }

  private setShot(changes: Partial<Shot>): void {
    draft.set({ shots: draft.now.shots.map((shot, index) => (index === this.index ? { ...shot, ...changes } : shot)) });
  }

  private get index(): number {
    return Math.max(0, Math.min(this.selected, draft.now.shots.length - 1));
  }

  private shotCard(): TemplateResult {
    const { shots, stop } = draft.now;
    const shot = shots[this.index];
    if (!shot) return html``;
    const end = stopOf(shots, this.index, stop);
    return html`<section class="card shot-card" aria-labelledby="shot-title">
      <header class="row">
        <h2 id="shot-title">Shot ${this.index + 1} <span class="muted">of ${shots.length}</span></h2>
        <span class="muted nowrap">${clock(shot.start)}–${clock(end)}</span>
        <span class="grow"></span>
        <button class="quiet round" ?disabled=${this.index === 0} @click=${() => (this.selected = this.index - 1)} aria-label="Shot before">${icon("back")}</button>
        <button class="quiet round next" ?disabled=${this.index >= shots.length - 1} @click=${() => (this.selected = this.index + 1)} aria-label="Next shot">${icon("back")}</button>
      </header>
      <div class="two">
        <picture-view
          .picture=${shot.picture} .ratio=${this.ratio} .name=${"shot-picture"} .hint=${"for this shot only"}
          @picture=${(event: CustomEvent<FileInfo | null>) => this.setShot({ picture: event.detail })}
        ></picture-view>
        <div class="fields">
          <label for="shot-name">Name</label>
          <input id="shot-name" .value=${shot.name} maxlength="60" placeholder="Shot ${this.index + 1}" @input=${(event: Event) => this.setShot({ name: text(event) })} />
          <label for="shot-prompt">What to see in this shot</label>
          <textarea id="shot-prompt" rows="3" aria-describedby="shots-error" .value=${shot.prompt}
            placeholder=${draft.now.prompt || "As the whole video"} @input=${(event: Event) => this.setShot({ prompt: text(event) })}></textarea>
          ${this.looks((prompt) => this.setShot({ prompt }))}
        </div>
      </div>
      ${this.errorOf("shots")}
      <div class="row wrap">
        <button class="quiet" @click=${() => this.split((shot.start + end) / 2)}>Split in two</button>
        <button class="quiet" ?disabled=${this.index === 0} @click=${() => this.merge(this.index)}>Join with the shot before</button>
        ${this.index
          ? html`<label class="inline check"><input type="checkbox" .checked=${shot.cut === "continue"}
              @change=${(event: Event) => this.setShot({ cut: (event.target as HTMLInputElement).checked ? "continue" : "hard" })} />
              The movement goes on from the shot before</label>`
          : nothing}
      </div>
      <storyboard-tools .song=${this.song}></storyboard-tools>
    </section>`;
  }

  private looks(choose: (prompt: string) => void): TemplateResult {
    return html`<div class="looks" role="group" aria-label="Ideas">
      ${LOOKS.map((look) => html`<button class="chip" @click=${() => choose(look.prompt)}>${look.name}</button>`)}
    </div>`;
  }

  // look and output

  private get ratio(): number {
    const { width, height } = this.size;
    return width / height;
  }

  private get size(): { width: number; height: number } {
    return sizeOf(SHAPES.find((one) => one.id === draft.now.shape) ?? SHAPES[0]!, QUALITIES[draft.now.quality] ?? QUALITIES[2]!);
  }

  private lookCard(): TemplateResult {
    const now = draft.now;
    return html`<section class="card" aria-labelledby="look-title">
      <h2 id="look-title">${now.mode === "storyboard" ? "Look of all shots" : "Look"}</h2>
      <div class="two">
        <div>
          <picture-view .picture=${now.picture} .ratio=${this.ratio} .name=${"picture"} .hint=${"a face, a place, a cover"}
            @picture=${(event: CustomEvent<FileInfo | null>) => draft.set({ picture: event.detail })}></picture-view>
          ${this.errorOf("picture", "field")}
        </div>
        <div class="fields">
          <label for="prompt">What to see</label>
          <textarea id="prompt" rows="4" aria-describedby="prompt-error" aria-invalid=${!!this.errors.prompt} .value=${now.prompt}
            placeholder="A singer by a window, soft morning light, moving with the music"
            @input=${(event: Event) => draft.set({ prompt: text(event) })}></textarea>
          ${this.errorOf("prompt")} ${this.looks((prompt) => draft.set({ prompt }))}
          <details>
            <summary>More</summary>
            <label for="negative">What not to see</label>
            <textarea id="negative" rows="2" aria-describedby="negative-error" .value=${now.negative} placeholder="The model's own list, unless you say otherwise"
              @input=${(event: Event) => draft.set({ negative: text(event) })}></textarea>
            ${this.errorOf("negative")}
            <label for="seed">Seed <span class="muted">same seed, same video</span></label>
            <input id="seed" inputmode="numeric" aria-describedby="seed-error" .value=${now.seed === null ? "" : String(now.seed)} placeholder="0"
              @change=${(event: Event) => draft.set({ seed: /^\d{1,9}$/.test(text(event)) ? Number(text(event)) : null })} />
            ${this.errorOf("seed")}
            <label class="inline check"><input type="checkbox" .checked=${now.smooth}
              @change=${(event: Event) => draft.set({ smooth: (event.target as HTMLInputElement).checked })} />
              Smoother: 32 pictures a second</label>
            <label class="inline check"><input type="checkbox" .checked=${now.isScored}
              @change=${(event: Event) => draft.set({ isScored: (event.target as HTMLInputElement).checked })} />
              Score it against the sound when it is there</label>
          </details>
        </div>
      </div>
    </section>`;
  }

  private outputCard(): TemplateResult {
    const now = draft.now;
    const quality = QUALITIES[now.quality] ?? QUALITIES[2]!;
    const { width, height } = this.size;
    return html`<section class="card output">
      <fieldset class="shapes">
        <legend>Shape</legend>
        ${SHAPES.map(
          (shape) => html`<label class="shape" title=${shape.name}>
            <input class="unseen" type="radio" name="shape" .checked=${shape.id === now.shape} @change=${() => draft.set({ shape: shape.id })} />
            <span class="frame" aria-hidden="true" ${place({ "aspect-ratio": String(shape.ratio), [shape.ratio > 1 ? "width" : "height"]: "100%" })}></span>
            <span>${shape.id}<span class="unseen"> ${shape.name}</span></span>
          </label>`,
        )}
      </fieldset>
      <div class="quality">
        <label for="quality">Quality <output>${quality.name}</output></label>
        <input id="quality" type="range" min="0" max=${QUALITIES.length - 1} step="1" .value=${String(now.quality)}
          aria-valuetext="${quality.name}: ${quality.says}" aria-describedby="quality-error"
          ${place({ "--share": `${(now.quality / (QUALITIES.length - 1)) * 100}%` })}
          @input=${(event: Event) => draft.set({ quality: Number(text(event)) })} />
        <p class="row small muted ends"><span>Quick</span><span>Best</span></p>
        <p class="small muted">${width} × ${height}, ${quality.steps} steps: ${quality.says}</p>
        ${this.errorOf("quality")}
      </div>
      ${this.planFacts()} ${this.engineField()} ${this.errorOf("render")}
      <button class="primary big" id="render" aria-describedby="render-error" ?disabled=${this.isAsking} @click=${() => void this.render_()}>
        ${this.isAsking ? html`<span class="spinner" aria-hidden="true"></span>` : nothing}Make the video
      </button>
    </section>`;
  }

  private planFacts(): TemplateResult {
    const plan = this.plan;
    const estimate = plan?.estimated_seconds;
    return html`<dl class="facts ${this.isPlanning ? "stale" : ""}" aria-live="polite" aria-busy=${this.isPlanning}>
      <div><dt>Time</dt><dd>${!plan ? "–" : estimate === null || estimate === undefined ? "not known yet" : duration(estimate)}</dd></div>
      <div><dt>Memory</dt><dd>${plan?.memory_bytes ? bytes(plan.memory_bytes) : "–"}</dd></div>
      <div><dt>Video</dt><dd>${plan ? clock(plan.seconds) : "–"}</dd></div>
      <div><dt>Clips</dt><dd>${plan ? plan.clips.length : "–"}</dd></div>
    </dl>
    ${plan?.notes.length ? html`<ul class="notes small muted">${plan.notes.map((note) => html`<li>${note}</li>`)}</ul>` : nothing}`;
  }

  private engineField(): TemplateResult {
    const models = this.models?.data ?? [];
    const missing = this.engines.filter((one) => !one.is_here);
    return html`<div class="engine fields">
      <label for="model">Rendered by</label>
      <select id="model" aria-describedby="engine-error" @change=${(event: Event) => draft.set({ model: text(event) })}>
        ${models.map((model) => html`<option value=${model.id} ?selected=${model.id === (draft.now.model ?? models[0]?.id)}>${nameOf(model, this.engines)}</option>`)}
      </select>
      ${this.errorOf("engine")}
      ${missing.length
        ? html`<details class="small"><summary>${many(missing.length, "more engine")} could be here</summary>
            <ul class="notes muted">${missing.map((one) => html`<li><strong>${one.name}</strong>: ${one.missing}</li>`)}</ul></details>`
        : nothing}
    </div>`;
  }

  private errorOf(part: string, id = "error"): TemplateResult {
    const message = this.errors[part];
    return html`<p class="error" id="${part}-${id}" role="alert">${message ? html`${icon("warn")}<span>${message}</span>` : nothing}</p>`;
  }
}

/** Options of the command, as they are called here. */
const WORDS: Record<string, string> = { "--audio-start": "the start", "--duration": "the length", "--cut": "a cut", "--seed": "the seed" };

function inWordsOfThePage(message: string): string {
  const changed = message.replace(/--[a-z-]+/g, (option) => WORDS[option] ?? option);
  return changed.charAt(0).toUpperCase() + changed.slice(1);
}

function text(event: Event): string {
  return (event.target as HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement).value;
}

function nameOf(model: { id: string; engine: string }, engines: EngineFact[]): string {
  const engine = engines.find((one) => one.engine === model.engine);
  return model.id === model.engine && engine ? engine.name : model.id;
}

const EXAMPLE_WORDS = "deep blue mist before dawn, neon rain, magenta and violet";
const DROP_BARS = [10, 18, 14, 26, 38, 30, 20, 34, 48, 40, 28, 18, 30, 44, 52, 42, 30, 22, 34, 46, 36, 24, 16, 28, 36, 24, 14, 20, 12, 8];

function svgBar(index: number, height: number): TemplateResult {
  return svg`<rect x=${index * 8 + 1} y=${(56 - height) / 2} width="4" height=${height} rx="2" />` as unknown as TemplateResult;
}
