/** The picture that gives style and subject, with what of it the video will show. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import type { FileInfo } from "./api";
import { errorLine, place } from "./base";
import { icon } from "./icons";
import { Receiver } from "./receiver";

@customElement("picture-view")
export class PictureView extends Receiver {
  @property({ attribute: false }) declare picture: FileInfo | null;
  @property({ type: Number }) declare ratio: number; // of the video, width to height
  @property() declare hint: string;
  @state() declare private isOver: boolean;

  constructor() {
    super();
    this.picture = null;
    this.ratio = 1;
    this.name = "picture";
    this.hint = "";
    this.isOver = false;
  }

  override render(): TemplateResult {
    const facts = this.picture?.facts.picture;
    return html`
      <label
        class="picture ${this.isOver ? "over" : ""} ${this.picture ? "full" : ""}"
        @dragover=${(event: DragEvent) => (event.preventDefault(), (this.isOver = true))}
        @dragleave=${() => (this.isOver = false)}
        @drop=${this.drop}
      >
        <input class="unseen" type="file" accept="image/*" aria-label="Choose a picture" @change=${this.choose} aria-describedby="${this.name}-error" />
        ${this.picture && facts
          ? html`<span class="cropped" ${place({ "aspect-ratio": `${facts.width} / ${facts.height}`, "--ratio": `${facts.width / facts.height}` })}>
              <img src="/v1/files/${this.picture.id}/picture" alt="${this.picture.filename}" />
              <span class="crop" ${place(crop(facts.width / facts.height, this.ratio))}></span>
            </span>`
          : html`<span class="invite">${icon("picture")}<span>${this.share === null ? "Drop a picture, or choose one" : "Sending…"}</span
              >${this.hint ? html`<small class="muted">${this.hint}</small>` : nothing}</span
            >`}
      </label>
      ${this.picture
        ? html`<p class="row small"><span class="muted grow ellipsis">${this.picture.filename}</span>
            <button class="quiet small" @click=${() => this.emit("picture", null)}>Remove</button></p>`
        : nothing}
      ${errorLine(this.name, this.own || this.error)}
    `;
  }

  protected override drop(event: DragEvent): void {
    this.isOver = false;
    super.drop(event);
  }

  protected override take(info: FileInfo): string {
    if (info.kind !== "picture") return `${info.filename} is a ${info.kind}: expected a picture, as png, jpeg or webp.`;
    this.emit("picture", info);
    return "";
  }
}

/** Where in a picture the middle lies that covers the frame, in shares of it. */
export function crop(picture: number, frame: number): Record<string, string> {
  const [width, height] = picture > frame ? [frame / picture, 1] : [1, picture / frame];
  const percent = (share: number) => `${(share * 100).toFixed(2)}%`;
  return { width: percent(width), height: percent(height), left: percent((1 - width) / 2), top: percent((1 - height) / 2) };
}
