/** What all parts of the page share. */

import { html, LitElement, nothing, type TemplateResult } from "lit";
import { Directive, directive, PartType, type AttributePart, type PartInfo } from "lit/directive.js";
import { icon } from "./icons";

/** An element in the page's own tree, so that one sheet styles all and labels reach their inputs. */
export class Part extends LitElement {
  private ends: (() => void)[] = [];
  private sources: EventTarget[] = [];

  protected override createRenderRoot(): HTMLElement {
    return this;
  }

  /** Draw again whenever a source says that it has changed. */
  protected watch(...sources: EventTarget[]): void {
    this.sources.push(...sources);
  }

  override connectedCallback(): void {
    super.connectedCallback();
    const update = () => this.requestUpdate();
    for (const source of this.sources) {
      source.addEventListener("change", update);
      this.ends.push(() => source.removeEventListener("change", update));
    }
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.ends.splice(0).forEach((end) => end());
  }

  protected emit<T>(name: string, detail: T): void {
    this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true }));
  }
}

/** Style properties set by script: the page's policy allows no style attributes. */
class Place extends Directive {
  private known: Record<string, string> = {};

  constructor(info: PartInfo) {
    super(info);
    if (info.type !== PartType.ATTRIBUTE && info.type !== PartType.ELEMENT) throw new Error("place is for an element");
  }

  override render(_: Record<string, string>): typeof nothing {
    return nothing;
  }

  override update(part: AttributePart, [styles]: [Record<string, string>]): typeof nothing {
    const element = part.element as HTMLElement;
    for (const [name, value] of Object.entries(styles)) {
      if (this.known[name] !== value) element.style.setProperty(name, value);
    }
    this.known = styles;
    return nothing;
  }
}

export const place = directive(Place);

/** Tell what has happened to people who do not see it. */
export function announce(text: string): void {
  const region = document.getElementById("announcer");
  if (region) region.textContent = text;
}

/** What is wrong with a field, in its place; there is a place where nothing is wrong, too. */
export function errorLine(field: string, message: string | undefined): TemplateResult {
  return html`<p class="error" id="${field}-error" role="alert">${message ? html`${icon("warn")}<span>${message}</span>` : nothing}</p>`;
}

/** What is typed or chosen. */
export function text(event: Event): string {
  return (event.target as HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement).value;
}
