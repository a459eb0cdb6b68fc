/** A new video: sound, picture, words, shape, quality; and what it will take. */

import { html, nothing, svg, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { ask, type FileInfo, type Video } from "./api";
import { Arrivals } from "./arrivals";
import { announce, errorLine, Part } from "./base";
import { draft, LEAST_SECONDS } from "./draft";
import { icon } from "./icons";
import { jobs } from "./jobs";
import { Listener } from "./listener";
import { tell } from "./places";
import { Planner } from "./planner";
import { sizeOf } from "./quality";
import { toRequest, type Mode } from "./requests";
import { merged, propose, split, stopOf, within, type Look, type Shot } from "./shots";
import { clock, many, parseClock } from "./words";
import "./look-fields";
import "./output-card";
import "./shot-card";
import "./wave-view";

const SOUNDS = "audio/*,video/*,.flac,.opus,.m4a,.aiff,.mka";

@customElement("new-view")
export class NewView extends Part {
  @property() declare wish: string;
  @state() declare private isOver: boolean;
  @state() declare private errors: Record<string, string>; // of what was done last, by where they are told
  @state() declare private isAsking: boolean;
  @state() declare private selected: number;

  private planner = new Planner();
  private listener = new Listener();
  private arrivals = new Arrivals();
  private refused: unknown = null;

  constructor() {
    super();
    this.wish = "";
    this.isOver = this.isAsking = false;
    this.errors = {};
    this.selected = 0;
    this.watch(draft, jobs, this.planner, this.listener, this.arrivals);
  }

  override connectedCallback(): void {
    super.connectedCallback();
    document.addEventListener("keydown", this.key);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    document.removeEventListener("keydown", this.key);
    this.planner.stop();
    this.listener.stop();
  }

  override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("wish") && this.wish === "demo") void this.demo();
    const { failure } = this.planner;
    if (failure === this.refused) return;
    this.refused = failure;
    const shot = failure ? tell(failure, "render").shot : null;
    if (shot !== null) this.selected = shot;
  }

  override updated(): void {
    const { sound } = draft.now;
    if (sound) this.listener.hear(sound);
    if (jobs.isOnline) this.planner.look();
  }

  /** Ctrl+Enter makes the video; Ctrl+Z takes back, but for words that are typed: those the browser takes back. */
  private key = (event: KeyboardEvent): void => {
    const key = event.key.toLowerCase();
    if (!(event.ctrlKey || event.metaKey) || !["enter", "z", "y"].includes(key) || document.querySelector("dialog[open]")) return;
    const isTyping = (event.target as Element).matches("textarea, input:not([type=radio], [type=checkbox], [type=range])");
    if (isTyping && key !== "enter") return;
    event.preventDefault();
    if (key === "enter") void this.make(event.shiftKey ? FIRST : undefined);
    else if (key === "y" || event.shiftKey) draft.redo();
    else draft.undo();
  };

  // what is opened

  private async demo(): Promise<void> {
    history.replaceState(null, "", "#new");
    this.errors = {};
    await this.arrivals.demo().catch((error) => this.fail(error, "sound"));
    this.selected = 0;
  }

  private take(given: Iterable<File>): Promise<void> {
    this.errors = {};
    return this.arrivals.take(given).catch((error) => this.fail(error, "sound"));
  }

  private fail(error: unknown, otherwise: string): void {
    const { place, shot, message } = tell(error, otherwise);
    if (shot !== null) this.selected = shot;
    this.errors = { ...this.errors, [place]: message };
  }

  /** What is said where: of what was done last, and of the plan. */
  private get told(): Record<string, string> {
    const { failure } = this.planner;
    const heard: Record<string, string> = this.listener.failure ? { sound: tell(this.listener.failure, "sound").message } : {};
    if (!failure) return { ...heard, ...this.errors };
    const { place, shot, message } = tell(failure, "render");
    const isSeen = draft.now.mode === "storyboard" || !/^shot/.test(place);
    return { [isSeen && (shot === null || shot === this.index) ? place : "render"]: message, ...heard, ...this.errors };
  }

  private async make(priority?: number): Promise<void> {
    if (this.isAsking || !draft.now.sound) return;
    const wrong = this.querySelector<HTMLInputElement>("input:invalid");
    if (wrong) return wrong.focus();
    this.isAsking = true;
    try {
      await this.arrivals.settled;
      if (!draft.now.sound) return;
      this.errors = {};
      jobs.put(await ask<Video>("POST", "/v1/videos", { ...toRequest(draft.now), priority }));
      location.hash = "queue";
    } catch (error) {
      this.fail(error, "render");
      await this.updateComplete;
      this.querySelector(".error:not(:empty)")?.scrollIntoView({ block: "center" });
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
        void this.take(event.dataTransfer?.files ?? []);
      }}
    >
      ${sound ? this.workspace(sound) : this.welcome()}
    </div>`;
  }

  private welcome(): TemplateResult {
    const { sending } = this.arrivals;
    return html`<section class="welcome">
      <h1>A video that moves with your song</h1>
      <p class="lead muted">Drop a song. Choose a part, add a picture and a few words, and watch it come.</p>
      <label class="drop">
        <input class="unseen" type="file" accept=${SOUNDS} aria-label="Choose a song" aria-describedby="sound-error" @change=${this.choose} />
        <svg class="drop-wave" viewBox="0 0 240 56" aria-hidden="true">
          ${DROP_BARS.map((height, index) => svgBar(index, height))}
        </svg>
        ${sending
          ? html`<strong>Opening ${sending.name}</strong><progress max="1" value=${sending.share || nothing} aria-label="Sent"></progress>`
          : html`<strong>Drop a song here, or choose one</strong><span class="muted">mp3, wav, flac, m4a, ogg, or a video with sound</span>`}
      </label>
      ${errorLine("sound", this.errors.sound)}
      <p class="muted">
        Nothing at hand? <button class="link" @click=${() => void this.demo()}>Open the example song</button>
      </p>
    </section>`;
  }

  private choose(event: Event): void {
    const input = event.target as HTMLInputElement;
    void this.take(input.files ?? []).then(() => (input.value = ""));
  }

  private workspace(sound: FileInfo): TemplateResult {
    const { mode, size, shape, quality } = draft.now;
    const { width, height } = size ?? sizeOf(shape, quality);
    const errors = this.told;
    return html`
      <h1 class="unseen">New video</h1>
      <div class="columns">
        <div class="column">
          ${this.soundCard(sound, errors)}
          ${mode === "storyboard"
            ? html`<shot-card .index=${this.index} .ratio=${width / height} .errors=${errors} .song=${this.listener.song}
                @select=${this.select} @split=${this.split} @merge=${this.merge}></shot-card>`
            : nothing}
          <section class="card" aria-labelledby="look-title">
            <h2 id="look-title">${mode === "storyboard" ? "Look of all shots" : "Look"}</h2>
            <look-fields .look=${draft.now} .ratio=${width / height} .ids=${""} .errors=${errors} .more=${this.afterwards()}
              @look=${(event: CustomEvent<Partial<Look>>) => draft.set(event.detail)}></look-fields>
          </section>
        </div>
        <aside class="column side" aria-label="Output">
          <output-card .plan=${this.planner.plan} .isPlanning=${this.planner.isAsking} .isAsking=${this.isAsking} .errors=${errors}
            @render=${() => void this.make()}></output-card>
        </aside>
      </div>
    `;
  }

  private soundCard(sound: FileInfo, errors: Record<string, string>): TemplateResult {
    const { now } = draft;
    const { sending } = this.arrivals;
    return html`<section class="card sound" aria-label="Sound">
      <header class="row">
        <h2 class="ellipsis grow">${sound.filename}</h2>
        ${sending && !sound.local ? html`<progress class="thin" max="1" value=${sending.share} aria-label="Sent"></progress>` : nothing}
        <button class="quiet round" ?disabled=${!draft.canUndo} @click=${() => draft.undo()} aria-label="Undo" title="Undo (Ctrl+Z)">${icon("undo")}</button>
        <button class="quiet round" ?disabled=${!draft.canRedo} @click=${() => draft.redo()} aria-label="Redo" title="Redo (Ctrl+Shift+Z)">${icon("redo")}</button>
        <label class="button quiet">
          <input class="unseen" type="file" multiple accept=${SOUNDS} aria-label="Choose another song" aria-describedby="sound-error" @change=${this.choose} />Change
        </label>
      </header>
      ${errorLine("sound", errors.sound)}
      <wave-view
        .sound=${sound}
        .outline=${this.listener.outline}
        .heard=${this.listener.share}
        .song=${this.listener.song}
        .start=${now.start}
        .stop=${now.stop}
        .shots=${now.shots}
        .selected=${this.index}
        .hasShots=${now.mode === "storyboard"}
        .sent=${sound.local ? Math.min(0.99, sending?.share ?? 0) : 1}
        @region=${(event: CustomEvent<{ start: number; stop: number }>) => this.setPart(event.detail.start, event.detail.stop)}
        @section=${(event: CustomEvent<{ start: number; stop: number }>) => this.chooseSection(event.detail)}
        @shots=${(event: CustomEvent<Shot[]>) => draft.set({ shots: event.detail })}
        @select=${this.select}
        @split=${this.split}
        @merge=${this.merge}
      ></wave-view>
      ${this.partRow(errors)}
    </section>`;
  }

  private partRow(errors: Record<string, string>): TemplateResult {
    const { mode, start, stop, sound } = draft.now;
    return html`<div class="part row wrap">
      <div class="segments" role="group" aria-label="What to make">
        ${this.segment("part", "One take", mode)}${this.segment("storyboard", "Storyboard", mode)}
      </div>
      ${this.timeField("start", "From", start)} ${this.timeField("stop", "to", stop)}
      <span class="muted nowrap">${clock(stop - start)} long</span>
      <span class="grow"></span>
      <button class="quiet" @click=${() => this.setPart(0, sound?.facts.sound?.seconds ?? stop)}>Whole song</button>
    </div>
    ${errorLine("part", errors.part)}`;
  }

  private segment(mode: Mode, name: string, now: Mode): TemplateResult {
    return html`<button aria-pressed=${mode === now} @click=${() => this.setMode(mode)}>${name}</button>`;
  }

  private timeField(which: "start" | "stop", name: string, value: number): TemplateResult {
    return html`<label class="inline">${name}
      <input
        class="time" inputmode="decimal" autocomplete="off" .value=${clock(value, 2)} aria-describedby="part-error"
        @change=${(event: Event) => this.type(which, event.target as HTMLInputElement)}
      /></label>`;
  }

  private type(which: "start" | "stop", input: HTMLInputElement): void {
    const time = parseClock(input.value);
    input.setCustomValidity(Number.isNaN(time) ? "no time" : "");
    if (Number.isNaN(time)) {
      this.errors = { part: `“${input.value}” is no time: expected seconds, or as 1:23.5` };
      return;
    }
    const { start, stop } = draft.now;
    const [from, to] = which === "start" ? [time, Math.max(stop, time + LEAST_SECONDS)] : [start, time];
    this.setPart(from, to);
    input.value = clock(draft.now[which], 2);
  }

  private get seconds(): number {
    return draft.now.sound?.facts.sound?.seconds ?? draft.now.stop;
  }

  private setPart(start: number, stop: number): void {
    const from = Math.min(Math.max(0, start), Math.max(0, this.seconds - LEAST_SECONDS));
    const to = Math.min(this.seconds, Math.max(stop, from + LEAST_SECONDS));
    this.errors = {};
    for (const input of this.querySelectorAll<HTMLInputElement>("input.time")) input.setCustomValidity("");
    draft.set({ start: from, stop: to, shots: draft.now.mode === "storyboard" ? within(draft.now.shots, from, to) : [] });
  }

  private chooseSection(section: { start: number; stop: number }): void {
    const { mode, shots } = draft.now;
    if (mode === "part") this.setPart(section.start, section.stop);
    else this.selected = Math.max(0, shots.findLastIndex((shot) => shot.start <= section.start + 0.25));
  }

  private setMode(mode: Mode): void {
    const { shots, start, stop, mode: before } = draft.now;
    if (mode === before) return;
    const shot = shots[this.index];
    this.selected = 0;
    if (mode === "storyboard") draft.set({ mode, start: 0, stop: this.seconds, shots: propose(this.listener.song, 0, this.seconds) });
    else draft.set({ mode, start: shot?.start ?? start, stop: shot ? stopOf(shots, shots.indexOf(shot), stop) : stop, shots: [] });
  }

  // shots

  private select(event: CustomEvent<number>): void {
    this.selected = event.detail;
  }

  private split({ detail: time }: CustomEvent<number>): void {
    const shots = split(draft.now.shots, time, draft.now.stop);
    this.selected = Math.max(0, shots.findLastIndex((shot) => shot.start <= time));
    draft.set({ shots });
  }

  private merge({ detail: index }: CustomEvent<number>): void {
    const shots = merged(draft.now.shots, index);
    this.selected = Math.max(0, Math.min(index, shots.length) - 1);
    draft.set({ shots });
    announce(many(shots.length, "shot"));
  }

  private get index(): number {
    return Math.max(0, Math.min(this.selected, draft.now.shots.length - 1));
  }

  /** What is done with the video once it is rendered, and what a storyboard said that has no field. */
  private afterwards(): TemplateResult {
    const now = draft.now;
    const rest = Object.entries(now.rest);
    return html`
      <label class="inline check"><input type="checkbox" .checked=${now.smooth}
        @change=${(event: Event) => draft.set({ smooth: (event.target as HTMLInputElement).checked })} />
        Smoother: 32 pictures a second</label>
      <label class="inline check"><input type="checkbox" .checked=${now.isScored}
        @change=${(event: Event) => draft.set({ isScored: (event.target as HTMLInputElement).checked })} />
        Score it against the sound when it is there</label>
      ${rest.length
        ? html`<p class="small muted rest">Kept from what was opened: ${rest.map(([name, value]) => `${name} ${JSON.stringify(value)}`).join(", ")}.
            <button class="link" @click=${() => draft.set({ rest: {} })}>Leave it out</button></p>`
        : nothing}`;
  }
}

const FIRST = 100; // the largest priority

const DROP_BARS = [10, 18, 14, 26, 38, 30, 20, 34, 48, 40, 28, 18, 30, 44, 52, 42, 30, 22, 34, 46, 36, 24, 16, 28, 36, 24, 14, 20, 12, 8];

function svgBar(index: number, height: number): TemplateResult {
  return svg`<rect x=${index * 8 + 1} y=${(56 - height) / 2} width="4" height=${height} rx="2" />` as unknown as TemplateResult;
}
