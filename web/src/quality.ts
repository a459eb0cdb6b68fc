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

/** Width and height of a shape at a quality, multiples of 16. */
export function sizeOf(shape: Shape, quality: Quality): { width: number; height: number } {
  const round = (side: number) => Math.max(MULTIPLE, Math.round(side / MULTIPLE) * MULTIPLE);
  return { width: round(Math.sqrt(quality.area * shape.ratio)), height: round(Math.sqrt(quality.area / shape.ratio)) };
}

/** The quality and shape that come nearest to a size and a number of steps. */
export function nearest(width: number, height: number, steps: number): { shape: Shape; quality: number } {
  const far = (a: number, b: number) => Math.abs(Math.log(a / b));
  const shape = SHAPES.reduce((best, one) => (far(one.ratio, width / height) < far(best.ratio, width / height) ? one : best));
  const cost = (one: Quality) => far(one.area, width * height) + far(one.steps, steps);
  const best = QUALITIES.reduce((found, one) => (cost(one) < cost(found) ? one : found));
  return { shape, quality: QUALITIES.indexOf(best) };
}

export const LOOKS: readonly { name: string; prompt: string }[] = [
  { name: "On stage", prompt: "a singer on a small stage, warm spotlights, haze, handheld camera, moving with the music" },
  { name: "Neon rain", prompt: "a street at night in the rain, neon reflections, slow push in, cinematic, moving to the beat" },
  { name: "Golden hour", prompt: "an open field at golden hour, wind in the grass, soft lens flare, gentle movement" },
  { name: "Studio portrait", prompt: "close-up portrait, soft window light, calm background, natural expression, singing" },
  { name: "Abstract", prompt: "ink and light flowing in dark water, macro, colours that pulse with the rhythm" },
  { name: "Calm", prompt: "smooth flowing motion, gentle movements, serene atmosphere, soft dynamics" },
];
