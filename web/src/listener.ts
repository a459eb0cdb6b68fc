/** What is heard in the sound: its outline as it comes, then beats and sections. */

import { ApiError, ask, type FileInfo, type Heard, type Peaks, type Song } from "./api";
import { announce } from "./base";
import { draft } from "./draft";
import { jobs } from "./jobs";

export class Listener extends EventTarget {
  outline: Peaks | null = null;
  share = 0; // that has been listened to for its beats and sections
  song: Song | null = null;
  failure: unknown = null;
  private heard = "";

  /** Listen to a sound, where it is not the one that is heard already. */
  hear(sound: FileInfo): void {
    if (this.heard === sound.id) return;
    this.heard = sound.id;
    this.outline = this.song = this.failure = null;
    this.share = 0;
    this.changed();
    if (!sound.local) void this.listen(sound.id);
  }

  stop(): void {
    this.heard = "";
  }

  private async listen(id: string): Promise<void> {
    const isOther = () => this.heard !== id;
    const peaks: Peaks["peaks"] = [];
    try {
      for (let isWhole = false; !isWhole; ) {
        const part = await ask<Peaks>("GET", `/v1/files/${id}/peaks?first=${peaks.length}`);
        if (isOther()) return;
        peaks.push(...part.peaks);
        this.outline = { ...part, first: 0, peaks };
        this.changed();
        isWhole = part.is_whole;
      }
      await this.follow(id, isOther);
      const song = await ask<Song>("GET", `/v1/files/${id}/analysis`);
      if (isOther()) return;
      this.song = song;
      draft.suggest(song);
      announce(`${song.sections.length} sections, ${Math.round(song.tempo_bpm)} beats a minute`);
    } catch (error) {
      if (isOther()) return;
      if (error instanceof ApiError && error.status === 404) draft.lose();
      else if (error instanceof ApiError && error.status === 0) this.listenAgain();
      else this.failure = error;
    }
    this.changed();
  }

  /** Until all of it has been listened to; it is asked about at each hundredth. */
  private async follow(id: string, isOther: () => boolean): Promise<void> {
    let after = "";
    while (this.share < 1 && !isOther()) {
      const { heard, seconds } = await ask<Heard>("GET", `/v1/files/${id}/analysis/progress${after}`);
      if (isOther()) return;
      this.share = heard / seconds;
      this.changed();
      after = `?after=${Math.min(Math.floor(heard + seconds / 100), Math.ceil(seconds) - 1)}`;
    }
  }

  /** Once the server is back. */
  private listenAgain(): void {
    jobs.addEventListener("change", () => (jobs.isOnline ? this.stop() : this.listenAgain()), { once: true });
  }

  private changed(): void {
    this.dispatchEvent(new Event("change"));
  }
}
