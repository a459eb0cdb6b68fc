/** Cut the song anew. */

import { html, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import type { Song } from "./api";
import { Part } from "./base";
import { draft } from "./draft";
import { propose } from "./shots";

@customElement("storyboard-tools")
export class StoryboardTools extends Part {
  @property({ attribute: false }) declare song: Song | null;

  constructor() {
    super();
    this.song = null;
    this.watch(draft);
  }

  override render(): TemplateResult {
    return html`<p class="row wrap small tools">
      <span class="muted grow">Drag the cuts, or move them with the arrow keys. Double-click a shot to cut it.</span>
      <button class="quiet small" @click=${this.cut}>Cut anew from the song</button>
    </p>`;
  }

  private cut(): void {
    const { start, stop } = draft.now;
    draft.set({ shots: propose(this.song, start, stop) });
  }
}
