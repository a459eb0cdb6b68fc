/** What to see: picture, words, and what else a video or a shot of it may have of its own. */

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { live } from "lit/directives/live.js";
import type { FileInfo } from "./api";
import { errorLine, Part, text } from "./base";
import { LOOKS } from "./quality";
import { NO_LOOK, type Look } from "./shots";
import "./file-field";
import "./picture-view";

const DRIVES: readonly { word: string; name: string }[] = [
  { word: "mix", name: "The sound itself" },
  { word: "vocals", name: "Its voice only" },
  { word: "vocals+mix", name: "Its voice; the sound where nobody sings" },
];
const FOLDED = ["negative", "seed", "drive", "pose"] as const;
const OF_A_FILE = "file";
const MOST_SEED_DIGITS = 20; // of 2⁶⁴, after which seeds begin anew

@customElement("look-fields")
export class LookFields extends Part {
  @property({ attribute: false }) declare look: Look;
  @property({ attribute: false }) declare whole: Look | null; // of a shot: what it has where it says nothing
  @property() declare ids: string; // what the ids of its fields begin with
  @property({ type: Number }) declare ratio: number;
  @property({ attribute: false }) declare errors: Record<string, string>; // by the ids of fields
  @property({ attribute: false }) declare head: TemplateResult | typeof nothing;
  @property({ attribute: false }) declare more: TemplateResult | typeof nothing;
  @property({ type: Number }) declare index: number; // of the shot
  @state() declare private seedTyped: string | null; // that is no seed
  @state() declare private isOfAFile: boolean;

  constructor() {
    super();
    this.look = NO_LOOK;
    this.whole = null;
    this.ids = "";
    this.index = 0;
    this.seedTyped = null;
    this.ratio = 1;
    this.errors = {};
    this.head = this.more = nothing;
    this.isOfAFile = false;
  }

  private set(changes: Partial<Look>): void {
    this.emit("look", changes);
  }

  private error(field: string): string {
    if (field === "seed" && this.seedTyped !== null) {
      return `“${this.seedTyped.slice(0, 30)}” is no seed: expected a whole number of at most ${MOST_SEED_DIGITS} digits.`;
    }
    return this.errors[this.ids + field] ?? "";
  }

  override willUpdate(changed: PropertyValues<this>): void {
    if (changed.has("index")) [this.seedTyped, this.isOfAFile] = [null, false];
  }

  /** What is wrong is not folded away. */
  override updated(): void {
    if (FOLDED.some((field) => this.error(field))) this.querySelector("details")!.open = true;
  }

  override render(): TemplateResult {
    const { look, ids, whole } = this;
    return html`<div class="two">
      <picture-view
        .picture=${look.picture} .ratio=${this.ratio} .name=${`${ids}picture`} .error=${this.error("picture")}
        .hint=${whole ? "for this shot only" : "a face, a place, a cover"}
        @picture=${(event: CustomEvent<FileInfo | null>) => this.set({ picture: event.detail })}
      ></picture-view>
      <div class="fields">
        ${this.head}
        <label for="${ids}prompt">${whole ? "What to see in this shot" : "What to see"}</label>
        <textarea id="${ids}prompt" rows=${whole ? 3 : 4} aria-describedby="${ids}prompt-error" aria-invalid=${!!this.error("prompt")}
          .value=${look.prompt ?? ""}
          placeholder=${whole ? whole.prompt || "As the whole video" : "A singer by a window, soft morning light, moving with the music"}
          @input=${(event: Event) => this.set({ prompt: words(event) })}></textarea>
        ${errorLine(`${ids}prompt`, this.error("prompt"))}
        <div class="looks" role="group" aria-label="Ideas">
          ${LOOKS.map((one) => html`<button class="chip" @click=${() => this.set({ prompt: withIdea(look.prompt, one.prompt) })}>${one.name}</button>`)}
        </div>
        <details>
          <summary>More${this.told()}</summary>
          <label for="${ids}negative">What not to see</label>
          <textarea id="${ids}negative" rows="2" aria-describedby="${ids}negative-error" .value=${look.negative ?? ""}
            placeholder=${whole ? whole.negative || "As the whole video" : "The model's own list, unless you say otherwise"}
            @input=${(event: Event) => this.set({ negative: words(event) })}></textarea>
          ${errorLine(`${ids}negative`, this.error("negative"))}
          <label for="${ids}seed">Seed <span class="muted">same seed, same video</span></label>
          <input id="${ids}seed" inputmode="numeric" autocomplete="off" aria-describedby="${ids}seed-error" aria-invalid=${!!this.error("seed")}
            .value=${live(this.seedTyped ?? look.seed ?? "")} placeholder=${whole ? "As the whole video" : "0"} @input=${this.setSeed} />
          ${errorLine(`${ids}seed`, this.error("seed"))}
          ${this.driveField()}
          <p class="label">Movements to follow</p>
          <file-field .file=${look.pose} .name=${`${ids}pose`} label="Choose a video of movements" accept="video/*,image/*" .error=${this.error("pose")}
            .refusal=${(info: FileInfo) => (info.kind === "sound" ? `${info.filename} is a sound: expected a video of somebody who moves.` : "")}
            @file=${(event: CustomEvent<FileInfo | null>) => this.set({ pose: event.detail })}></file-field>
          ${this.more}
        </details>
      </div>
    </div>`;
  }

  /** How much of what is folded away is said. */
  private told(): string {
    const count = FOLDED.filter((field) => this.look[field] !== null).length;
    return count ? ` · ${count} set` : "";
  }

  private driveField(): TemplateResult {
    const { look, ids, whole } = this;
    const sound = typeof look.drive === "object" ? look.drive : null;
    const chosen = sound || this.isOfAFile ? OF_A_FILE : ((look.drive as string | null) ?? "");
    const option = (value: string, name: string) => html`<option value=${value} ?selected=${value === chosen}>${name}</option>`;
    return html`<label for="${ids}drive">Moved by</label>
      <select id="${ids}drive" aria-describedby="${ids}drive-error" @change=${this.setDrive}>
        ${option("", whole ? "As the whole video" : DRIVES[0]!.name)}
        ${DRIVES.slice(whole ? 0 : 1).map((one) => option(one.word, one.name))}
        ${option(OF_A_FILE, "Another sound, which is not heard")}
      </select>
      ${chosen === OF_A_FILE
        ? html`<file-field .file=${sound} .name=${`${ids}drive`} label="Choose the sound that moves it" accept="audio/*,video/*" .error=${this.error("drive")}
            .refusal=${(info: FileInfo) => (info.facts.sound ? "" : `${info.filename} is a ${info.kind} without sound.`)}
            @file=${(event: CustomEvent<FileInfo | null>) => this.set({ drive: event.detail })}></file-field>`
        : errorLine(`${ids}drive`, this.error("drive"))}`;
  }

  private setDrive(event: Event): void {
    const word = text(event);
    this.isOfAFile = word === OF_A_FILE;
    this.set({ drive: this.isOfAFile ? null : word || null });
  }

  private setSeed(event: Event): void {
    const typed = text(event).trim();
    const isSeed = /^\d*$/.test(typed) && typed.length <= MOST_SEED_DIGITS;
    this.seedTyped = isSeed ? null : typed;
    (event.target as HTMLInputElement).setCustomValidity(this.seedTyped === null ? "" : "no seed");
    if (isSeed) this.set({ seed: typed.replace(/^0+(?=\d)/, "") || null });
  }
}

/** null where nothing is said. */
function words(event: Event): string | null {
  return text(event).trim() ? text(event) : null;
}

/** An idea takes the place of another one, and stands behind words of one's own. */
function withIdea(prompt: string | null, idea: string): string {
  if (!prompt || LOOKS.some((look) => look.prompt === prompt)) return idea;
  return `${prompt.replace(/[\s,.]+$/, "")}, ${idea}`;
}
