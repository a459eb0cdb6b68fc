/** Shots from the song, from a storyboard file, and into one. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import type { Song } from "./api";
import { announce, errorLine, Part } from "./base";
import { doors } from "./doors";
import { draft } from "./draft";
import { icon } from "./icons";
import { propose } from "./shots";
import { openStoryboard, saveText, stem, storyboardText } from "./storyboards";
import { inWordsOfThePage } from "./words";

@customElement("storyboard-tools")
export class StoryboardTools extends Part {
  @property({ attribute: false }) declare song: Song | null;
  @state() declare private error: string;

  constructor() {
    super();
    this.song = null;
    this.error = "";
    this.watch(draft, doors);
  }

  override render(): TemplateResult {
    return html`<div class="row wrap tools">
        <button class="quiet small" @click=${this.cut}>${icon("cut")}Cut anew from the song</button>
        ${doors.has("/v1/storyboards")
          ? html`<label class="button quiet small"><input class="unseen" type="file" accept=".toml,.json" aria-label="Open a storyboard"
                aria-describedby="storyboard-error" @change=${this.open} />${icon("open")}Open a storyboard</label>
              <button class="quiet small" @click=${() => void this.save()}>${icon("download")}Save the storyboard</button>`
          : nothing}
      </div>
      ${errorLine("storyboard", this.error)}`;
  }

  private cut(): void {
    const { start, stop } = draft.now;
    draft.set({ shots: propose(this.song, start, stop) });
    announce(`${draft.now.shots.length} shots`);
  }

  private async save(): Promise<void> {
    await this.try(async () => saveText(await storyboardText(), `${stem(draft.now.sound?.filename ?? "storyboard")}.toml`));
  }

  private async open(event: Event): Promise<void> {
    const input = event.target as HTMLInputElement;
    const file = input.files?.[0];
    if (!file) return;
    await this.try(async () => {
      await openStoryboard(file);
      announce("The storyboard is laid out");
    });
    input.value = "";
  }

  private async try(what: () => Promise<void>): Promise<void> {
    this.error = "";
    await what().catch((error: Error) => (this.error = inWordsOfThePage(error.message)));
  }
}
