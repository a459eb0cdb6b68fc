/** Where on the page it is said that a field is wrong. */

import { ApiError } from "./api";
import { inWordsOfThePage } from "./words";

const OF_A_LOOK: [RegExp, string][] = [
  [/^(ref_image|input_reference)/, "picture"],
  [/^(prompt|mood)/, "prompt"],
  [/^negative/, "negative"],
  [/^seed/, "seed"],
  [/^drive/, "drive"],
  [/^(guide\.)?pose/, "pose"],
];
const OF_THE_WHOLE: [RegExp, string][] = [
  [/^(audio|file$)/, "sound"],
  [/^(window|cuts|seconds)/, "part"],
  ...OF_A_LOOK,
  [/^(width|height|size|sampling|preset)/, "quality"],
  [/^(model|engine|compute|server|loras|workflow)/, "engine"],
];

export interface Told {
  place: string; // `place`-error is the id of where it is said
  shot: number | null; // of which shot it is
  message: string;
}

export function tell(error: unknown, otherwise: string): Told {
  const message = inWordsOfThePage(error instanceof Error ? error.message : String(error));
  const field = error instanceof ApiError ? error.field : null;
  const [, index, own] = field?.match(/^shots(?:\.(\d+))?(?:\.(.+))?$/) ?? [];
  if (field?.startsWith("shots")) {
    const place = find(OF_A_LOOK, own) ?? (own === "name" ? "name" : null);
    return { place: place && index !== undefined ? `shot-${place}` : "shots", shot: index === undefined ? null : Number(index), message };
  }
  return { place: find(OF_THE_WHOLE, field) ?? otherwise, shot: null, message };
}

function find(places: [RegExp, string][], field: string | null | undefined): string | null {
  return places.find(([pattern]) => field && pattern.test(field))?.[1] ?? null;
}
