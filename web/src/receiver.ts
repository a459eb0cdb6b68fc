/** What a part that takes a file has in common: it is dropped or chosen, sent, and taken or refused. */

import { property, state } from "lit/decorators.js";
import { upload, type FileInfo } from "./api";
import { Part } from "./base";
import { inWordsOfThePage } from "./words";

export abstract class Receiver extends Part {
  @property() declare name: string; // of its error: `name`-error
  @property() declare error: string; // what the server says
  @state() declare protected share: number | null; // that is sent
  @state() declare protected own: string; // why the last file was not taken

  constructor() {
    super();
    this.name = this.error = this.own = "";
    this.share = null;
  }

  /** Take a file that has arrived; why it is none that is taken, else "". */
  protected abstract take(info: FileInfo): string;

  protected drop(event: DragEvent): void {
    event.preventDefault();
    event.stopPropagation();
    void this.send(event.dataTransfer?.files[0]);
  }

  protected choose(event: Event): void {
    const input = event.target as HTMLInputElement;
    void this.send(input.files?.[0]).then(() => (input.value = ""));
  }

  private async send(file: File | undefined): Promise<void> {
    if (!file) return;
    this.own = "";
    this.share = 0;
    try {
      this.own = this.take(await upload(file, (share) => (this.share = share)));
    } catch (error) {
      this.own = inWordsOfThePage((error as Error).message);
    } finally {
      this.share = null;
    }
  }
}
