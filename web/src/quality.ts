/** One slider from quick to best, and the shapes that a picture may have. */

export interface Quality {
  name: string;
  says: string;
  area: number; // pixels
  steps: number;
  inferFrames: number;
}

export const QUALITIES: readonly Quality[] = [
  { name: "Quick", says: "to see whether it moves as you like", area: 320 * 576, steps: 12, inferFrames: 48 },
  { name: "Light", says: "small and fast", area: 400 * 704, steps: 20, inferFrames: 80 },
  { name: "Balanced", says: "what the model was made for", area: 480 * 832, steps: 30, inferFrames: 80 },
  { name: "Fine", says: "sharper, slower", area: 576 * 1024, steps: 35, inferFrames: 80 },
  { name: "Best", says: "720p with long clips", area: 704 * 1280, steps: 40, inferFrames: 112 },
];

export interface Shape {
  id: string;
  name: string;
  ratio: number; // width to height
}

export const SHAPES: readonly Shape[] = [
  { id: "9:16", name: "Tall", ratio: 480 / 832 },
  { id: "4:5", name: "Portrait", ratio: 4 / 5 },
  { id: "1:1", name: "Square", ratio: 1 },
  { id: "16:9", name: "Wide", ratio: 832 / 480 },
  { id: "21:9", name: "Cinema", ratio: 21 / 9 },
];

const MULTIPLE = 16;

export interface Size {
  width: number;
  height: number;
  steps: number;
  inferFrames: number;
}

export function qualityOf(number: number): Quality {
  return QUALITIES[number] ?? QUALITIES[2]!;
}

/** The size, in multiples of 16, and the steps of a shape at a quality. */
export function sizeOf(shape: string, quality: number): Size {
  const { area, steps, inferFrames } = qualityOf(quality);
  const { ratio } = SHAPES.find((one) => one.id === shape) ?? SHAPES[0]!;
  const round = (side: number) => Math.max(MULTIPLE, Math.round(side / MULTIPLE) * MULTIPLE);
  return { width: round(Math.sqrt(area * ratio)), height: round(Math.sqrt(area / ratio)), steps, inferFrames };
}

/** The shape and the quality that come nearest to a size; `size` where they are not the same. */
export function nearest(size: Size): { shape: string; quality: number; size: Size | null } {
  const far = (a: number, b: number) => Math.abs(Math.log(a / b));
  const shape = closest(SHAPES, (one) => far(one.ratio, size.width / size.height)).id;
  const found = closest(QUALITIES, (one) => far(one.area, size.width * size.height) + far(one.steps, size.steps));
  const quality = QUALITIES.indexOf(found);
  const isSame = JSON.stringify(sizeOf(shape, quality)) === JSON.stringify(size);
  return { shape, quality, size: isSame ? null : size };
}

function closest<T>(choices: readonly T[], distance: (one: T) => number): T {
  return choices.reduce((best, one) => (distance(one) < distance(best) ? one : best));
}

export const LOOKS: readonly { name: string; prompt: string }[] = [
  { name: "On stage", prompt: "a singer on a small stage, warm spotlights, haze, handheld camera, moving with the music" },
  { name: "Neon rain", prompt: "a street at night in the rain, neon reflections, slow push in, cinematic, moving to the beat" },
  { name: "Golden hour", prompt: "an open field at golden hour, wind in the grass, soft lens flare, gentle movement" },
  { name: "Studio portrait", prompt: "close-up portrait, soft window light, calm background, natural expression, singing" },
  { name: "Abstract", prompt: "ink and light flowing in dark water, macro, colours that pulse with the rhythm" },
  { name: "Calm", prompt: "smooth flowing motion, gentle movements, serene atmosphere, soft dynamics" },
];
