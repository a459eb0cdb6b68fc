/** What the server is asked, and what it answers: shapes of docs/api.md. */

import { parseJson } from "./json";

export interface Failure {
  code: string;
  message: string;
  field: string | null;
}

export interface SoundFacts {
  seconds: number;
}

export interface PictureFacts {
  width: number;
  height: number;
}

export interface FileInfo {
  id: string;
  filename: string;
  bytes: number;
  kind: "sound" | "picture" | "video";
  facts: { sound?: SoundFacts; picture?: PictureFacts };
  local?: string; // its address in this browser, while it is on its way; it has no id yet
}

export interface Peaks {
  seconds: number;
  per_second: number;
  first: number; // the number of the first pair
  is_whole: boolean;
  peaks: [number, number][];
}

export interface Section {
  start: number;
  stop: number;
  name: string;
  role: string;
  letter: string;
}

export interface Song {
  seconds: number;
  tempo_bpm: number;
  meter: string | null;
  beats: number[];
  downbeats: number[];
  sections: Section[];
  voice: [number, number][];
  strongest: { start: number; duration: number }[];
}

/** How much of a song has been listened to, in seconds. */
export interface Heard {
  heard: number;
  seconds: number;
}

export interface PlanShot {
  index: number;
  name?: string;
  start: number;
  stop: number;
  clips: number;
}

export interface Plan {
  engine: string;
  why: string;
  width: number;
  height: number;
  seconds: number;
  frames_written: number;
  fps_written: number;
  clips: unknown[];
  memory_bytes: number | null;
  disk_bytes: number;
  estimated_seconds: number | null;
  notes: string[];
}

export interface Live {
  stage: string;
  what: string | null;
  clip: number | null;
  clips: number | null;
  step: number | null;
  steps: number | null;
  share: number | null;
  eta_seconds: number | null;
  worker: string;
  preview: number;
  partial: number;
}

export type State = "queued" | "running" | "succeeded" | "failed" | "cancelled";

export interface Video {
  id: string;
  model: string;
  state: State;
  is_stopping: boolean;
  progress: number;
  position: number | null;
  created_at: number;
  ended_at: number | null;
  prompt: string | null;
  seconds: string;
  size: string;
  error: Failure | null;
  engine: string;
  request: { fields: Fields; files: Record<string, string>; loras?: string[]; workflow?: string; redo?: { of: string; shot: string } };
  plan: { frames: number; fps: number; seconds: number; clips: number; shots: PlanShot[] };
  notes: string[];
  live: Live | null;
  result: { frames: number; fps: number; seconds: number; bytes: number } | null;
  links: Record<string, string>;
}

/** Fields of a request, in groups. */
export interface Fields {
  [name: string]: unknown;
}

/** A request whose files are the ids of uploads, and the file that says the same. */
export interface Storyboard {
  request: Fields;
  toml: string;
}

export interface Demo {
  audio: FileInfo;
  ref_image: FileInfo;
  storyboard: string;
}

export interface EngineFact {
  engine: string;
  name: string;
  is_here: boolean;
  missing: string | null;
}

export interface Models {
  data: { id: string; engine: string }[];
}

/** The server has refused, or is not there (`status` 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field: string | null = null,
  ) {
    super(message);
  }
}

export const LOGIN_NEEDED = "login-needed";

const AGAIN_MS = 1000;
const OFFLINE = "The server does not answer. Your work here is kept; it goes on when the server is back.";

function refusal(status: number, body: unknown): ApiError {
  if (status === 401) window.dispatchEvent(new Event(LOGIN_NEEDED));
  const error = (body as { error?: Failure } | null)?.error;
  if (!error) return new ApiError(status, "unknown", `The server answered with ${status}.`);
  return new ApiError(status, error.code, error.message, error.field);
}

export async function ask<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "offline", OFFLINE);
  }
  const data: unknown = await answer.text().then(parseJson).catch(() => null);
  if (!answer.ok) throw refusal(answer.status, data);
  return data as T;
}

/** Send a file. Where the server goes away meanwhile it is waited for, and the file is sent anew. */
export async function upload(file: File, onShare: (share: number) => void): Promise<FileInfo> {
  window.addEventListener("beforeunload", askBefore);
  sending += 1;
  try {
    for (;;) {
      try {
        return await sendOnce(file, onShare);
      } catch (error) {
        if (!(error instanceof ApiError && error.status === 0)) throw error;
        if (await isThere()) throw new ApiError(0, "broken-off", `The server broke off while ${file.name} was sent: send it again.`);
        onShare(0);
        while (!(await isThere())) await new Promise((done) => setTimeout(done, AGAIN_MS));
      }
    }
  } finally {
    sending -= 1;
    if (!sending) window.removeEventListener("beforeunload", askBefore);
  }
}

let sending = 0;

/** The browser asks whether to leave while something is sent. */
function askBefore(event: BeforeUnloadEvent): void {
  event.preventDefault();
}

function isThere(): Promise<boolean> {
  return fetch("/healthz").then((answer) => answer.ok, () => false);
}

/** fetch does not tell how far it is, XMLHttpRequest does. */
function sendOnce(file: File, onShare: (share: number) => void): Promise<FileInfo> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/files");
    request.responseType = "json";
    request.upload.onprogress = (event) => event.lengthComputable && onShare(event.loaded / event.total);
    request.onload = () =>
      request.status === 200 ? resolve(request.response as FileInfo) : reject(refusal(request.status, request.response));
    request.onerror = () => reject(new ApiError(0, "offline", OFFLINE));
    const form = new FormData();
    form.append("file", file);
    request.send(form);
  });
}

const files = new Map<string, Promise<FileInfo>>();

/** What is known of an upload; asked once. */
export function fileInfo(id: string): Promise<FileInfo> {
  let known = files.get(id);
  if (!known) {
    known = ask<FileInfo>("GET", `/v1/files/${id}`);
    known.catch(() => files.delete(id));
    files.set(id, known);
  }
  return known;
}
