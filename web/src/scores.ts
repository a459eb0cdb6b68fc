/** What a recipe says of how well a video follows its sound: docs/scores.md. */

interface Measured {
  value: number;
  control: number;
  chance: number;
}

interface ShotScore {
  start: number;
  stop: number;
  weakness: number; // 0..1, 1 has the most to mend
  weak_in: string; // "" where nothing could be judged
}

export interface Recipe {
  scores?: {
    beat: { onsets: Measured; beats: Measured | null; offset_ms: number | null } | null;
    lips: { correlation: Measured | null } | null;
    shots: ShotScore[];
    frozen: { start: number; stop: number }[];
  };
  [name: string]: unknown;
}

export interface ScoreFact {
  name: string;
  value: string;
  says: string;
}

export interface Weakness {
  start: number;
  stop: number;
  weakness: number;
  says: string;
}

const MAY_BE_CHANCE = 0.05;

function fact(name: string, measured: Measured | null | undefined): ScoreFact[] {
  if (!measured) return [];
  const chance = measured.chance >= MAY_BE_CHANCE ? ", may be chance" : "";
  return [{ name, value: measured.value.toFixed(2), says: `${measured.control.toFixed(2)} with the sound moved${chance}` }];
}

/** The numbers of the whole video, each beside its control. */
export function scoreFacts({ scores }: Recipe): ScoreFact[] {
  if (!scores) return [];
  const beat = scores.beat;
  const offset = beat?.offset_ms ?? null;
  return [
    ...fact("On the beat", beat?.beats ?? beat?.onsets),
    ...fact("Lips", scores.lips?.correlation),
    ...(offset === null ? [] : [{ name: "Sound", value: `${Math.round(offset)} ms`, says: Math.round(offset) === 0 ? "with the picture" : offset > 0 ? "after the picture" : "before the picture" }]),
  ];
}

/** How much there is to mend where. */
export function weaknesses({ scores }: Recipe): Weakness[] {
  const judged = scores?.shots.filter((shot) => shot.weak_in) ?? [];
  return judged.map((shot) => ({ start: shot.start, stop: shot.stop, weakness: shot.weakness, says: shot.weak_in }));
}
