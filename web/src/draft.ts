/** What is being made on the page: kept over a reload, each tab its own, and taken back step by step. */

import type { FileInfo, Song, Video } from "./api";
import { fromRequest, requestOf, type Content } from "./requests";
import { NO_LOOK } from "./shots";

const EMPTY: Content = {
  ...NO_LOOK,
  sound: null,
  mode: "part",
  start: 0,
  stop: 5,
  shots: [],
  shape: "9:16",
  quality: 2,
  size: null,
  smooth: false,
  isScored: true,
  model: null,
  rest: {},
};

const KEY = "soundreel.draft";
const MOST_STEPS = 100;
const ONE_STEP_MS = 800; // changes of the same thing that follow each other as fast are one step
export const LEAST_SECONDS = 0.5;

class Draft extends EventTarget {
  now: Content = { ...EMPTY, ...read() };
  private before: Content[] = [];
  private after: Content[] = [];
  private last = { what: "", at: 0 };

  set(changes: Partial<Content>): void {
    const [what, at] = [Object.keys(changes).join(), Date.now()];
    if (what !== this.last.what || at - this.last.at > ONE_STEP_MS) this.before = [...this.before, this.now].slice(-MOST_STEPS);
    this.last = { what, at };
    this.after = [];
    this.become({ ...this.now, ...changes });
  }

  get canUndo(): boolean {
    return this.before.length > 0;
  }

  get canRedo(): boolean {
    return this.after.length > 0;
  }

  undo(): void {
    this.step(this.before, this.after);
  }

  redo(): void {
    this.step(this.after, this.before);
  }

  private step(from: Content[], to: Content[]): void {
    const content = from.pop();
    if (!content) return;
    to.push(this.now);
    this.last.what = "";
    this.become(content);
  }

  private become(content: Content): void {
    this.now = content;
    if (!content.sound?.local) keep(JSON.stringify(content)); // a reload comes back to what was before
    this.dispatchEvent(new Event("change"));
  }

  /** A new sound: the words and the look stay. */
  open(sound: FileInfo): void {
    this.set({ sound, mode: "part", start: 0, stop: Math.min(5, sound.facts.sound?.seconds ?? 0), shots: [] });
  }

  /** The sound that was on its way is there. */
  arrive(sound: FileInfo): void {
    const seconds = sound.facts.sound?.seconds ?? 0;
    const settled = (one: Content) => (one.sound?.local ? { ...one, sound, stop: Math.min(one.stop, seconds) } : one);
    this.before = this.before.map(settled);
    this.after = this.after.map(settled);
    this.become(settled(this.now));
  }

  /** The sound that was on its way will not come: back to what was before it. */
  giveUp(): void {
    this.before = this.before.filter((one) => !one.sound?.local);
    this.after = [];
    this.become(this.before.pop() ?? { ...EMPTY });
  }

  /** The sound is on the server no more. */
  lose(): void {
    this.before = this.after = [];
    this.become({ ...this.now, sound: null });
  }

  /** What was heard proposes a part, where none was chosen yet. */
  suggest(song: Song): void {
    const { start, stop, mode } = this.now;
    const strongest = song.strongest[0];
    if (mode === "part" && start === 0 && Math.abs(stop - Math.min(5, song.seconds)) < 0.01 && strongest) {
      this.become({ ...this.now, start: strongest.start, stop: strongest.start + strongest.duration });
    }
  }

  /** The settings of a video as a new draft. */
  async again(video: Video): Promise<void> {
    this.set({ ...(await fromRequest(requestOf(video), Number(video.seconds))), model: video.model });
  }
}

function read(): Partial<Content> {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "{}") as Partial<Content>;
  } catch {
    return {};
  }
}

/** For this tab, and for the next one that is opened. */
function keep(text: string): void {
  for (const place of [() => sessionStorage, () => localStorage]) {
    try {
      place().setItem(KEY, text);
    } catch {
      // no room, or not allowed: it lasts as long as the page
    }
  }
}

export const draft = new Draft();
