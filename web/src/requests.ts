/** What is laid out on the page as a request to the server, and the other way round. */

import { fileInfo, type Fields, type FileInfo, type Video } from "./api";
import { nearest, sizeOf, type Size } from "./quality";
import { fromStarts, type Look, type Shot } from "./shots";

export type Mode = "part" | "storyboard";

export interface Content extends Look {
  sound: FileInfo | null;
  mode: Mode;
  start: number;
  stop: number;
  shots: Shot[];
  shape: string;
  quality: number;
  size: Size | null; // as it was opened, where slider and shapes have none like it
  smooth: boolean;
  isScored: boolean;
  model: string | null;
  rest: Fields; // what was opened and has no place on the page, by dotted names
}

const MODEL_FPS = 16;

/** Fields of a look → their names in a request, and in one of its shots. */
const NAMES: Record<keyof Look, [string, string]> = {
  prompt: ["prompt", "prompt"],
  negative: ["negative_prompt", "negative_prompt"],
  picture: ["ref_image", "ref_image"],
  seed: ["seed", "seed"],
  drive: ["drive", "drive"],
  pose: ["guide.pose_video", "pose_video"],
};
const FILES: readonly (keyof Look)[] = ["picture", "drive", "pose"];

const round = (seconds: number) => Math.round(seconds * 1000) / 1000;

/** The body of POST /v1/videos and /v1/plan; `isNamed`: shots are shots, even where they are no more than cuts. */
export function toRequest(now: Content, { isNamed = false } = {}): Fields {
  const { width, height, steps, inferFrames } = now.size ?? sizeOf(now.shape, now.quality);
  const body: Fields = {
    ...now.rest,
    audio: now.sound?.id,
    width,
    height,
    "window.start": round(now.start),
    "window.duration": round(now.stop - now.start),
    "sampling.steps": steps,
    "sampling.infer_frames": inferFrames,
    ...lookFields(now, 0),
  };
  if (now.smooth) body["output.interpolate"] = "motion";
  if (now.isScored) body["output.score"] = true;
  if (now.model) body.model = now.model;
  if (now.mode === "storyboard") Object.assign(body, shotFields(now.shots, isNamed));
  return body;
}

function lookFields(look: Look, which: 0 | 1): Fields {
  const fields: Fields = {};
  for (const [key, names] of Object.entries(NAMES)) {
    const value = look[key as keyof Look];
    if (value != null) fields[names[which]] = typeof value === "object" ? value.id : value;
  }
  return fields;
}

/** Shots that say nothing of their own are cuts. */
function shotFields(shots: readonly Shot[], isNamed: boolean): Fields {
  const own = shots.map((shot) => ({
    start: round(shot.start),
    ...(shot.name ? { name: shot.name } : {}),
    ...(shot.section ? { section: shot.section } : {}),
    ...(shot.cut === "hard" ? {} : { cut: shot.cut }),
    ...lookFields(shot, 1),
  }));
  if (isNamed || own.some((shot) => Object.keys(shot).length > 1)) return { shots: own };
  return own.length > 1 ? { cuts: own.slice(1).map((shot) => shot.start) } : {};
}

/** A request as it is laid out; files are in their places, by their ids. `length` is that of the video, where known. */
export async function fromRequest(request: Fields, length?: number): Promise<Partial<Content>> {
  const left = flat(request);
  const take = <T>(name: string): T | undefined => {
    const value = left[name] as T | undefined;
    delete left[name];
    return value;
  };
  const sound = await file(take("audio"));
  const [asked, cuts, isFull] = [take<Fields[]>("shots"), take<number[]>("cuts"), take("window.full")];
  const start = take<number>("window.start") ?? 0;
  const [duration, frames] = [take<number>("window.duration"), take<number>("window.frames")];
  const seconds = length ?? duration ?? (frames && !isFull ? frames / MODEL_FPS : undefined);
  const end = sound?.facts.sound?.seconds ?? start + (seconds ?? 5);
  const smooth = left["output.interpolate"] === "motion";
  if (smooth) take("output.interpolate");
  for (const name of ["clip_seeds", "window.num_clip", "window.default_clips"]) take(name);
  return {
    sound,
    ...(await lookOf(take, 0)),
    start,
    stop: seconds === undefined ? end : Math.min(end, start + seconds),
    mode: asked?.length || cuts?.length ? "storyboard" : "part",
    shots: asked?.length ? await Promise.all(asked.map((one) => shotOf(one, start))) : cuts?.length ? fromStarts([start, ...cuts]) : [],
    ...nearest({
      width: take<number>("width") ?? 480,
      height: take<number>("height") ?? 832,
      steps: take<number>("sampling.steps") ?? 30,
      inferFrames: take<number>("sampling.infer_frames") ?? 80,
    }),
    smooth,
    isScored: take("output.score") === true,
    rest: left,
  };
}

/** The request of a video, as it was sent. */
export function requestOf({ request }: Video): Fields {
  const { fields, files, loras, workflow } = request;
  const sent = structuredClone(fields);
  for (const [name, id] of Object.entries(files)) {
    const names = name.split(".");
    const last = names.pop()!;
    const place = names.reduce((inner, key) => (inner[key] ??= {}) as Fields, sent);
    place[last] = id;
  }
  return { ...sent, ...(loras ? { loras } : {}), ...(workflow ? { workflow } : {}) };
}

async function shotOf(one: Fields, start: number): Promise<Shot> {
  const value = <T>(name: string) => one[name] as T | undefined;
  return {
    ...(await lookOf(value, 1)),
    start: value<number>("start") ?? start,
    name: value<string>("name") ?? "",
    section: value<string>("section") ?? "",
    cut: value<Shot["cut"]>("cut") ?? "hard",
  };
}

async function lookOf(value: (name: string) => unknown, which: 0 | 1): Promise<Look> {
  const found: Record<string, unknown> = {};
  for (const key of Object.keys(NAMES) as (keyof Look)[]) {
    const given = value(NAMES[key][which]) ?? null;
    const isFile = FILES.includes(key) && typeof given === "string" && given.startsWith("file_");
    found[key] = isFile ? await file(given) : key === "seed" && given !== null ? String(given) : given;
  }
  return found as unknown as Look;
}

/** null also where it is there no more. */
async function file(id: string | undefined): Promise<FileInfo | null> {
  return id ? fileInfo(id).catch(() => null) : null;
}

/** Groups of fields by dotted names. */
function flat(request: Fields): Fields {
  return Object.fromEntries(
    Object.entries(request).flatMap(([name, value]) =>
      value !== null && typeof value === "object" && !Array.isArray(value)
        ? Object.entries(value).map(([inner, one]) => [`${name}.${inner}`, one] as const)
        : [[name, value] as const],
    ),
  );
}
