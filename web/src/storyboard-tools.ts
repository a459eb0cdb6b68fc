/** Shots from the song, from a storyboard file, and into one: the same file that a text editor has. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { ask, type Fields, type Song } from "./api";
import { announce, Part } from "./base";
import { doors } from "./doors";
import { draft, toRequest } from "./draft";
import { icon } from "./icons";
import { propose } from "./shots";

export interface Storyboard {
  request: Fields & { shots?: Fields[] };
  toml: string;
}

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
    const canWrite = doors.has("/v1/storyboards");
    return html`<p class="small muted tools">Drag the cuts, or move them with the arrow keys. Double-click a shot to cut it.</p>
      <div class="row wrap">
        <button class="quiet small" @click=${this.cut}>Cut anew from the song</button>
        ${canWrite
          ? html`<button class="quiet small" @click=${() => void this.save()}>${icon("download")}Save the storyboard</button>
              <label class="button quiet small"><input class="unseen" type="file" accept=".toml,.json" aria-label="Open a storyboard"
                aria-describedby="storyboard-error" @change=${this.open} />Open a storyboard</label>`
          : nothing}
      </div>
      <p class="error" id="storyboard-error" role="alert">${this.error}</p>`;
  }

  private cut(): void {
    const { start, stop } = draft.now;
    draft.set({ shots: propose(this.song, start, stop) });
  }

  private async save(): Promise<void> {
    this.error = "";
    try {
      const { model: _, ...request } = toRequest(draft.now, { isNamed: true });
      const made = await ask<Storyboard>("POST", "/v1/storyboards", request);
      saveText(made.toml, `${stem(draft.now.sound?.filename ?? "storyboard")}.toml`);
    } catch (error) {
      this.error = (error as Error).message;
    }
  }

  private async open(event: Event): Promise<void> {
    const input = event.target as HTMLInputElement;
    const file = input.files?.[0];
    input.value = "";
    if (!file) return;
    this.error = "";
    try {
      const format = file.name.endsWith(".json") ? "json" : "toml";
      const read = await ask<Storyboard>("POST", "/v1/storyboards/read", { text: await file.text(), format, files: known() });
      const { fields, files } = parted(read.request);
      await draft.lay(fields, files);
      announce("The storyboard is laid out");
    } catch (error) {
      this.error = (error as Error).message;
    }
  }
}

/** Files that a storyboard may name: those that are on the page. */
function known(): Record<string, string> {
  const { sound, picture, shots } = draft.now;
  const files = [sound, picture, ...shots.map((shot) => shot.picture)].filter((one) => one !== null);
  return Object.fromEntries(files.map((one) => [one.filename, one.id]));
}

/** A request, and the ids of its files by their fields. */
function parted(request: Storyboard["request"]): { fields: Fields; files: Record<string, string> } {
  const files: Record<string, string> = {};
  const { audio, ref_image, ...fields } = request;
  if (typeof audio === "string") files.audio = audio;
  if (typeof ref_image === "string") files.ref_image = ref_image;
  request.shots?.forEach((shot, index) => {
    if (typeof shot.ref_image === "string") files[`shots.${index}.ref_image`] = shot.ref_image;
  });
  return { fields, files };
}

export function stem(name: string): string {
  return name.replace(/\.\w{2,5}$/, "");
}

/** Give a text to the person as a file. */
export function saveText(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/toml" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
