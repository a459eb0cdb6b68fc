/** A file that is chosen or dropped, below a name: a video whose movements to follow, a sound that moves the picture. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { upload, type FileInfo } from "./api";
import { Part } from "./base";
import { icon } from "./icons";
import { inWordsOfThePage } from "./words";

@customElement("file-field")
export class FileField extends Part {
  @property({ attribute: false }) declare file: FileInfo | null;
  @property() declare name: string; // of its error: `name`-error
  @property() declare label: string;
  @property() declare accept: string;
  @property({ attribute: false }) declare refusal: (info: FileInfo) => string; // why it is none that is taken; else ""
  @property() declare error: string; // what the server says
  @state() declare private share: number | null;
  @state() declare private own: string;

  constructor() {
    super();
    this.file = null;
    this.name = this.label = this.accept = this.error = this.own = "";
    this.share = null;
    this.refusal = () => "";
  }

  override render(): TemplateResult {
    const message = this.own || this.error;
    return html`
      <div class="row file-field" @dragover=${(event: DragEvent) => event.preventDefault()} @drop=${this.drop}>
        <label class="button quiet grow ellipsis">
          <input class="unseen" type="file" accept=${this.accept} aria-label=${this.label} aria-describedby="${this.name}-error" @change=${this.choose} />
          <span class="ellipsis">${this.share !== null ? "Sending…" : (this.file?.filename ?? this.label)}</span>
        </label>
        ${this.file
          ? html`<button class="quiet round" @click=${() => this.emit("file", null)} aria-label="Remove ${this.file.filename}">${icon("trash")}</button>`
          : nothing}
      </div>
      <p class="error" id="${this.name}-error" role="alert">${message ? html`${icon("warn")}<span>${message}</span>` : nothing}</p>
    `;
  }

  private drop(event: DragEvent): void {
    event.preventDefault();
    event.stopPropagation();
    void this.send(event.dataTransfer?.files[0]);
  }

  private choose(event: Event): void {
    const input = event.target as HTMLInputElement;
    void this.send(input.files?.[0]).then(() => (input.value = ""));
  }

  private async send(file: File | undefined): Promise<void> {
    if (!file) return;
    this.own = "";
    this.share = 0;
    try {
      const info = await upload(file, (share) => (this.share = share));
      this.own = this.refusal(info);
      if (!this.own) this.emit("file", info);
    } catch (error) {
      this.own = inWordsOfThePage((error as Error).message);
    } finally {
      this.share = null;
    }
  }
}
