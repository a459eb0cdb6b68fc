/** A question before something is lost. */

import { html, type TemplateResult } from "lit";
import { customElement, query, state } from "lit/decorators.js";
import { Part } from "./base";

@customElement("ask-dialog")
export class AskDialog extends Part {
  @state() declare private title_: string;
  @state() declare private says: string;
  @state() declare private yes: string;
  @query("dialog") declare private dialog: HTMLDialogElement;
  private answer: (agrees: boolean) => void = () => {};

  constructor() {
    super();
    this.title_ = this.says = this.yes = "";
  }

  /** Whether the person agrees. The focus goes back to where it was. */
  async ask(title: string, says: string, yes: string): Promise<boolean> {
    this.answer(false); // to a question before, whose closing has not been told of yet
    const agrees = new Promise<boolean>((resolve) => (this.answer = resolve));
    [this.title_, this.says, this.yes] = [title, says, yes];
    await this.updateComplete;
    this.dialog.returnValue = "";
    this.dialog.showModal();
    return agrees;
  }

  private onClose(): void {
    if (!this.dialog.open) this.answer(this.dialog.returnValue === "yes");
  }

  override render(): TemplateResult {
    return html`<dialog aria-labelledby="ask-title" aria-describedby="ask-says" @close=${this.onClose}>
      <form method="dialog">
        <h2 id="ask-title">${this.title_}</h2>
        <p id="ask-says" class="muted">${this.says}</p>
        <div class="row end">
          <button class="quiet" value="">Keep it</button>
          <button class="primary" value="yes">${this.yes}</button>
        </div>
      </form>
    </dialog>`;
  }
}

export function askBefore(title: string, says: string, yes: string): Promise<boolean> {
  return document.querySelector<AskDialog>("ask-dialog")!.ask(title, says, yes);
}
