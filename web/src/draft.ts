/** What is being made on the page: kept over a reload, and turned into a request. */

import type { Fields, FileInfo, Song, Video } from "./api";
import { fileInfo } from "./api";
import { nearest, QUALITIES, SHAPES, sizeOf } from "./quality";
import { fromStarts, type Shot } from "./shots";

export type Mode = "part" | "storyboard";

export interface Content {
  sound: FileInfo | null;
  picture: FileInfo | null;
  prompt: string;
  negative: string;
  mode: Mode;
  start: number;
  stop: number;
  shots: Shot[];
  shape: string;
  quality: number;
  seed: number | null;
  smooth: boolean;
  isScored: boolean;
  model: string | null;
}

const EMPTY: Content = {
  sound: null,
  picture: null,
  prompt: "",
  negative: "",
  mode: "part",
  start: 0,
  stop: 5,
  shots: [],
  shape: "9:16",
  quality: 2,
  seed: null,
  smooth: false,
  isScored: true,
  model: null,
};

const KEY = "soundreel.draft";
export const LEAST_SECONDS = 0.5;
const MODEL_FPS = 16;

class Draft extends EventTarget {
  now: Content = { ...EMPTY, ...read() };

  set(changes: Partial<Content>): void {
    this.now = { ...this.now, ...changes };
    try {
      localStorage.setItem(KEY, JSON.stringify(this.now));
    } catch {
      // no room, or not allowed: it lasts as long as the page
    }
    this.dispatchEvent(new Event("change"));
  }

  /** A new sound: the words and the look stay. */
  open(sound: FileInfo): void {
    const seconds = sound.facts.sound?.seconds ?? 0;
    this.set({ sound, mode: "part", start: 0, stop: Math.min(5, seconds), shots: [] });
  }

  clear(): void {
    this.set({ ...EMPTY, shape: this.now.shape, quality: this.now.quality, model: this.now.model });
  }

  /** What was heard proposes a part, where none was chosen yet. */
  suggest(song: Song): void {
    const { start, stop, mode } = this.now;
    const strongest = song.strongest[0];
    if (mode === "part" && start === 0 && stop === Math.min(5, song.seconds) && strongest) {
      this.set({ start: strongest.start, stop: strongest.start + strongest.duration });
    }
  }

  /** The settings of a video as a new draft. */
  async again(video: Video): Promise<void> {
    await this.lay(video.request.fields, video.request.files, Number(video.seconds));
    this.set({ model: video.model });
  }

  /** A request as the server tells it, laid out; `length` is that of the video in seconds, where it is known. */
  async lay(fields: Fields, files: Record<string, string>, length?: number): Promise<void> {
    const file = (id: string | undefined) => (id ? fileInfo(id).catch(() => null) : Promise.resolve(null));
    const [sound, picture] = await Promise.all([file(files.audio), file(files.ref_image)]);
    const sampling = (fields.sampling ?? {}) as { steps?: number };
    const window = (fields.window ?? {}) as { start?: number; duration?: number; frames?: number };
    const [width, height] = [Number(fields.width ?? 480), Number(fields.height ?? 832)];
    const { shape, quality } = nearest(width, height, sampling.steps ?? 30);
    const start = window.start ?? 0;
    const seconds = length ?? window.duration ?? (window.frames ? window.frames / MODEL_FPS : undefined);
    const end = sound?.facts.sound?.seconds ?? start + (seconds ?? 5);
    this.set({
      sound,
      picture,
      prompt: (fields.prompt as string | undefined) ?? "",
      negative: (fields.negative_prompt as string | undefined) ?? "",
      start,
      stop: seconds === undefined ? end : Math.min(end, start + seconds),
      ...(await shotsOf(fields, files, start)),
      shape: shape.id,
      quality,
      seed: (fields.seed as number | undefined) ?? null,
      smooth: (fields.output as { interpolate?: string } | undefined)?.interpolate === "motion",
    });
  }
}

async function shotsOf(fields: Fields, files: Record<string, string>, start: number): Promise<Partial<Content>> {
  const cuts = fields.cuts as number[] | undefined;
  const asked = fields.shots as Partial<Shot & { ref_image: string }>[] | undefined;
  if (asked?.length) {
    const shots = await Promise.all(
      asked.map(async (one, index): Promise<Shot> => {
        const picture = files[`shots.${index}.ref_image`];
        return {
          ...fromStarts([one.start ?? start])[0]!,
          name: one.name ?? "",
          prompt: one.prompt ?? "",
          seed: one.seed ?? null,
          cut: one.cut ?? "hard",
          picture: picture ? await fileInfo(picture).catch(() => null) : null,
        };
      }),
    );
    return { mode: "storyboard", shots };
  }
  if (cuts?.length) return { mode: "storyboard", shots: fromStarts([start, ...cuts]) };
  return { mode: "part", shots: [] };
}

function read(): Partial<Content> {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Content>;
  } catch {
    return {};
  }
}

const round = (seconds: number) => Math.round(seconds * 1000) / 1000;

/** The body of POST /v1/videos and /v1/plan; `isNamed`: shots are shots, even where they are no more than cuts. */
export function toRequest(now: Content, { isNamed = false } = {}): Fields {
  const quality = QUALITIES[now.quality] ?? QUALITIES[2]!;
  const shape = SHAPES.find((one) => one.id === now.shape) ?? SHAPES[0]!;
  const body: Fields = {
    audio: now.sound?.id,
    ...sizeOf(shape, quality),
    "window.start": round(now.start),
    "window.duration": round(now.stop - now.start),
    "sampling.steps": quality.steps,
    "sampling.infer_frames": quality.inferFrames,
  };
  if (now.picture) body.ref_image = now.picture.id;
  if (now.prompt.trim()) body.prompt = now.prompt.trim();
  if (now.negative.trim()) body.negative_prompt = now.negative.trim();
  if (now.seed !== null) body.seed = now.seed;
  if (now.smooth) body["output.interpolate"] = "motion";
  if (now.isScored) body["output.score"] = true;
  if (now.model) body.model = now.model;
  if (now.mode === "storyboard") Object.assign(body, shotFields(now.shots, isNamed));
  return body;
}

/** Shots that say nothing of their own are cuts. */
function shotFields(shots: readonly Shot[], isNamed: boolean): Fields {
  if (!isNamed && shots.every((shot) => !shot.name && !shot.prompt.trim() && !shot.picture && shot.seed === null && shot.cut === "hard")) {
    return shots.length > 1 ? { cuts: shots.slice(1).map((shot) => round(shot.start)) } : {};
  }
  return {
    shots: shots.map((shot) => ({
      start: round(shot.start),
      ...(shot.name ? { name: shot.name } : {}),
      ...(shot.prompt.trim() ? { prompt: shot.prompt.trim() } : {}),
      ...(shot.picture ? { ref_image: shot.picture.id } : {}),
      ...(shot.seed === null ? {} : { seed: shot.seed }),
      ...(shot.cut === "hard" ? {} : { cut: shot.cut }),
    })),
  };
}

export const draft = new Draft();
