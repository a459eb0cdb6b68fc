/** Shots lie end to end: each goes on until the next one begins. */

import type { FileInfo, Song } from "./api";

/** What a video or a shot of it is to be like. null: not said; a shot is then as the whole video. */
export interface Look {
  prompt: string | null;
  negative: string | null;
  picture: FileInfo | null;
  seed: string | null; // its digits: a number here would lose those after the fifteenth
  drive: string | FileInfo | null; // one of `DRIVES`, or a sound
  pose: FileInfo | null;
}

export interface Shot extends Look {
  start: number;
  name: string;
  section: string;
  cut: "hard" | "continue";
}

export const NO_LOOK: Look = { prompt: null, negative: null, picture: null, seed: null, drive: null, pose: null };
export const SHORTEST = 0.5;
const USUAL = 6; // of a shot in a song; in a short sound they are shorter
const LEAST_USUAL = 1.8;
const SHOTS_OF_A_SHORT_SOUND = 5;

export function fromStarts(starts: readonly number[]): Shot[] {
  return starts.map((start) => ({ ...NO_LOOK, start, name: "", section: "", cut: "hard" }));
}

export function stopOf(shots: readonly Shot[], index: number, end: number): number {
  return shots[index + 1]?.start ?? end;
}

/** Cuts where sections begin, and on downbeats between them where a section is long. */
export function propose(song: Song | null, start: number, end: number): Shot[] {
  const downbeats = (song?.downbeats.length ? song.downbeats : song?.beats) ?? [];
  const starts = [start];
  const usual = Math.min(USUAL, Math.max(LEAST_USUAL, (end - start) / SHOTS_OF_A_SHORT_SOUND));
  const take = (time: number) => {
    if (time - starts[starts.length - 1]! >= SHORTEST * 2 && end - time >= SHORTEST * 2) starts.push(time);
  };
  const edges = [...(song?.sections.map((one) => one.start) ?? []), end].filter((time) => time > start && time <= end);
  for (const edge of edges) {
    for (;;) {
      const last = starts[starts.length - 1]!;
      if (edge - last < usual * 1.6) break;
      const wanted = last + usual;
      const next = snap(wanted, downbeats, usual / 3);
      if (next >= edge - usual / 2 || next <= last) break;
      take(next);
      if (starts[starts.length - 1] === last) break;
    }
    if (edge < end) take(snap(edge, downbeats, 1));
  }
  return fromStarts(starts);
}

/** The nearest of `times`, where one is no further away than `reach`. */
export function snap(time: number, times: readonly number[], reach: number): number {
  let best = time;
  let distance = reach;
  for (const one of times) {
    if (Math.abs(one - time) <= distance) {
      distance = Math.abs(one - time);
      best = one;
    }
  }
  return best;
}

/** The shots with the beginning of one moved, no nearer to its neighbours than allowed. */
export function moved(shots: readonly Shot[], index: number, time: number, end: number): Shot[] {
  const least = shots[index - 1]!.start + SHORTEST;
  const most = stopOf(shots, index, end) - SHORTEST;
  const start = Math.min(most, Math.max(least, time));
  return shots.map((shot, number) => (number === index ? { ...shot, start } : shot));
}

/** The shots with a cut more at `time`; the same where there is no room for one. */
export function split(shots: readonly Shot[], time: number, end: number): Shot[] {
  const index = shots.findLastIndex((shot) => shot.start <= time);
  const shot = shots[index];
  if (!shot || time - shot.start < SHORTEST || stopOf(shots, index, end) - time < SHORTEST) return [...shots];
  return [...shots.slice(0, index + 1), { ...shot, start: time, name: "", section: "", cut: "hard" }, ...shots.slice(index + 1)];
}

/** The shots without the cut before one: the shot before it goes on. */
export function merged(shots: readonly Shot[], index: number): Shot[] {
  return index < 1 ? [...shots] : shots.filter((_, number) => number !== index);
}

/** The shots of a window that has changed: those outside are gone, the first one begins with it. */
export function within(shots: readonly Shot[], start: number, end: number): Shot[] {
  const first = shots.findLastIndex((shot) => shot.start <= start);
  const inside = shots.filter((shot) => shot.start > start + SHORTEST && shot.start < end - SHORTEST);
  const begin = shots[Math.max(0, first)];
  return begin ? [{ ...begin, start }, ...inside.filter((shot) => shot !== begin)] : fromStarts([start]);
}
