/** What is dropped on the page, or chosen: one after the other it is sent and laid out, a sound while it is on its way. */

import { ask, upload, type Demo, type FileInfo } from "./api";
import { announce } from "./base";
import { draft } from "./draft";
import { isStoryboard, layStoryboard, openStoryboard } from "./storyboards";

const LONGEST_LOOK_MS = 1500;

export class Arrivals extends EventTarget {
  sending: { name: string; share: number } | null = null;
  private last: Promise<void> = Promise.resolve();

  /** Fulfilled when nothing is on its way any more, whatever became of it. */
  get settled(): Promise<void> {
    return this.last;
  }

  /** A song, a picture, a storyboard, or several of them together: a storyboard may name what comes with it. */
  take(given: Iterable<File>): Promise<void> {
    const files = [...given];
    const taken = this.last.then(() => this.takeNow(files)).finally(() => this.tell(null));
    this.last = taken.catch(() => undefined);
    return taken;
  }

  /** The example song with its storyboard. */
  async demo(): Promise<void> {
    this.tell({ name: "the example", share: 0 });
    try {
      const { audio, ref_image, storyboard } = await ask<Demo>("POST", "/v1/demo");
      await layStoryboard(storyboard, "toml", [audio, ref_image]);
      announce("The example song is laid out");
    } finally {
      this.tell(null);
    }
  }

  private async takeNow(files: readonly File[]): Promise<void> {
    const others = files.filter((file) => !isStoryboard(file));
    const sent: FileInfo[] = [];
    for (const file of others) sent.push(await this.send(file));
    const sound = sent.find((info) => info.facts.sound);
    const picture = sent.find((info) => info.kind === "picture");
    if (picture && draft.now.sound) draft.set({ picture });
    else if (picture) throw new Error(`${picture.filename} is a picture without sound: drop a song, or a video with sound.`);
    else if (others.length && !sound) throw new Error(`${others[0]!.name} has no sound: drop a song, or a video with sound.`);
    for (const file of files.filter(isStoryboard)) {
      await openStoryboard(file, sent);
      announce("The storyboard is laid out");
    }
  }

  /** A sound is laid out while it is on its way, as long as this browser says it is. */
  private async send(file: File): Promise<FileInfo> {
    this.tell({ name: file.name, share: 0 });
    announce(`Sending ${file.name}`);
    const local = URL.createObjectURL(file);
    const seconds = await localSeconds(file, local);
    if (seconds) draft.open({ id: "", filename: file.name, bytes: file.size, kind: "sound", facts: { sound: { seconds } }, local });
    try {
      const info = await upload(file, (share) => this.tell({ name: file.name, share }));
      if (seconds) draft.arrive(info);
      else if (info.facts.sound) draft.open(info);
      return info;
    } catch (error) {
      if (seconds) draft.giveUp();
      throw error;
    } finally {
      URL.revokeObjectURL(local);
    }
  }

  private tell(sending: Arrivals["sending"]): void {
    this.sending = sending;
    this.dispatchEvent(new Event("change"));
  }
}

/** The length of a sound, where this browser plays it; else 0. */
function localSeconds(file: File, address: string): Promise<number> {
  if (!/^(audio|video)/.test(file.type)) return Promise.resolve(0);
  return new Promise((resolve) => {
    const player = new Audio();
    const done = () => resolve(Number.isFinite(player.duration) ? player.duration : 0);
    player.addEventListener("loadedmetadata", done);
    player.addEventListener("error", done);
    setTimeout(done, LONGEST_LOOK_MS);
    player.preload = "metadata";
    player.src = address;
  });
}
