/** Storyboards as files: the same that a text editor has. */

import { ask, type FileInfo, type Storyboard } from "./api";
import { draft } from "./draft";
import { fromRequest, toRequest } from "./requests";

export function isStoryboard(file: File): boolean {
  return /\.(toml|json)$/i.test(file.name);
}

/** What is laid out on the page, as the text of a storyboard. */
export async function storyboardText(): Promise<string> {
  const { model: _, loras: __, workflow: ___, ...request } = toRequest(draft.now, { isNamed: true });
  return (await ask<Storyboard>("POST", "/v1/storyboards", request)).toml;
}

/** Lay out a storyboard. It may name `files` that came with it, what is on the page, and what the server has, in this order;
 * two of one name are told apart by the ends of their ids. */
export async function layStoryboard(text: string, format: "toml" | "json", files: readonly FileInfo[] = []): Promise<void> {
  const known: Record<string, string> = {};
  const kept = await ask<{ data: FileInfo[] }>("GET", "/v1/files?limit=100");
  for (const { filename, id } of [...files, ...onThePage(), ...kept.data].reverse()) known[filename] = known[`${id.slice(-6)}_${filename}`] = id;
  const read = await ask<Storyboard>("POST", "/v1/storyboards/read", { text, format, files: known });
  draft.set(await fromRequest(read.request));
}

export async function openStoryboard(file: File, files: readonly FileInfo[] = []): Promise<void> {
  await layStoryboard(await file.text(), /\.json$/i.test(file.name) ? "json" : "toml", files);
}

function onThePage(): FileInfo[] {
  const { sound, shots, ...whole } = draft.now;
  return [sound, ...[whole, ...shots].flatMap((look) => [look.picture, look.drive, look.pose])].filter(
    (one): one is FileInfo => typeof one === "object" && one !== null,
  );
}

export function stem(name: string): string {
  return name.replace(/\.\w{2,5}$/, "");
}

/** Give a text to the person as a file. */
export function saveText(text: string, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/toml" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
