/** JSON in which whole numbers keep their digits: one that a number here would round, as a long seed, comes as text. */

const TEXT_OR_LONG_NUMBER = /"(?:[^"\\]|\\.)*"|[-+.\deE]{16,}/g;

export function parseJson<T>(text: string): T {
  return JSON.parse(text.replace(TEXT_OR_LONG_NUMBER, (found) => (isRounded(found) ? `"${found}"` : found))) as T;
}

function isRounded(found: string): boolean {
  return /^-?\d+$/.test(found) && !Number.isSafeInteger(Number(found));
}
