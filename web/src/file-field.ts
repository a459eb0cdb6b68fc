/** A file that is chosen or dropped, below a name: a video whose movements to follow, a sound that moves the picture. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property } from "lit/decorators.js";
import type { FileInfo } from "./api";
import { errorLine } from "./base";
import { icon } from "./icons";
import { Receiver } from "./receiver";

@customElement("file-field")
export class FileField extends Receiver {
  @property({ attribute: false }) declare file: FileInfo | null;
  @property() declare label: string;
  @property() declare accept: string;
  @property({ attribute: false }) declare refusal: (info: FileInfo) => string; // why it is none that is taken; else ""

  constructor() {
    super();
    this.file = null;
    this.label = this.accept = "";
    this.refusal = () => "";
  }

  override render(): TemplateResult {
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
      ${errorLine(this.name, this.own || this.error)}
    `;
  }

  protected override take(info: FileInfo): string {
    const refusal = this.refusal(info);
    if (!refusal) this.emit("file", info);
    return refusal;
  }
}
