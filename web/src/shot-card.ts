/** The shot that is chosen: what it has of its own. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import type { Song } from "./api";
import { errorLine, Part, text } from "./base";
import { draft } from "./draft";
import { icon } from "./icons";
import { stopOf, type Look, type Shot } from "./shots";
import { clock } from "./words";
import "./look-fields";
import "./storyboard-tools";

@customElement("shot-card")
export class ShotCard extends Part {
  @property({ type: Number }) declare index: number;
  @property({ type: Number }) declare ratio: number;
  @property({ attribute: false }) declare errors: Record<string, string>;
  @property({ attribute: false }) declare song: Song | null;

  constructor() {
    super();
    this.index = 0;
    this.ratio = 1;
    this.errors = {};
    this.song = null;
    this.watch(draft);
  }

  private set(changes: Partial<Shot>): void {
    draft.set({ shots: draft.now.shots.map((shot, index) => (index === this.index ? { ...shot, ...changes } : shot)) });
  }

  override render(): TemplateResult | typeof nothing {
    const { shots, stop } = draft.now;
    const { index } = this;
    const shot = shots[index];
    if (!shot) return nothing;
    const end = stopOf(shots, index, stop);
    return html`<section class="card shot-card" aria-labelledby="shot-title">
      <header class="row">
        <h2 id="shot-title">Shot ${index + 1} <span class="muted">of ${shots.length}</span></h2>
        <span class="muted nowrap">${clock(shot.start)}–${clock(end)}</span>
        <span class="grow"></span>
        <button class="quiet round" ?disabled=${index === 0} @click=${() => this.emit("select", index - 1)} aria-label="Shot before">${icon("back")}</button>
        <button class="quiet round next" ?disabled=${index >= shots.length - 1} @click=${() => this.emit("select", index + 1)} aria-label="Next shot">${icon("back")}</button>
      </header>
      <look-fields .look=${shot} .whole=${draft.now} .ratio=${this.ratio} .ids=${"shot-"} .index=${index} .errors=${this.errors} .head=${this.nameField(shot)}
        @look=${(event: CustomEvent<Partial<Look>>) => this.set(event.detail)}></look-fields>
      ${errorLine("shots", this.errors.shots)}
      <div class="row wrap">
        <button class="quiet" @click=${() => this.emit("split", (shot.start + end) / 2)}>Split in two</button>
        <button class="quiet" ?disabled=${index === 0} @click=${() => this.emit("merge", index)}>Join with the shot before</button>
        ${index
          ? html`<label class="inline check"><input type="checkbox" .checked=${shot.cut === "continue"}
              @change=${(event: Event) => this.set({ cut: (event.target as HTMLInputElement).checked ? "continue" : "hard" })} />
              The movement goes on from the shot before</label>`
          : nothing}
      </div>
      <storyboard-tools .song=${this.song}></storyboard-tools>
    </section>`;
  }

  private nameField(shot: Shot): TemplateResult {
    return html`<label for="shot-name">Name</label>
      <input id="shot-name" .value=${shot.name} maxlength="60" autocomplete="off" placeholder=${shot.section || `Shot ${this.index + 1}`}
        aria-describedby="shots-error" @input=${(event: Event) => this.set({ name: text(event) })} />`;
  }
}
