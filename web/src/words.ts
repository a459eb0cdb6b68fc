/** Numbers as people read them. */

export function clock(seconds: number, digits = 1): string {
  const whole = Math.max(0, seconds);
  const minutes = Math.floor(whole / 60);
  const rest = (whole - minutes * 60).toFixed(digits);
  const [number, isFull] = Number(rest) >= 60 ? [minutes + 1, true] : [minutes, false];
  const tail = (isFull ? (0).toFixed(digits) : rest).padStart(digits ? digits + 3 : 2, "0");
  if (number < 60) return `${number}:${tail}`;
  return `${Math.floor(number / 60)}:${String(number % 60).padStart(2, "0")}:${tail}`;
}

/** `1:23.5`, `83.5` → seconds; NaN: neither. */
export function parseClock(text: string): number {
  const parts = text.trim().split(":");
  if (!parts.length || parts.length > 3 || parts.some((part) => !/^\d+([.,]\d*)?$/.test(part))) return NaN;
  return parts.reduce((sum, part) => sum * 60 + Number(part.replace(",", ".")), 0);
}

export function duration(seconds: number): string {
  if (seconds < 1) return "< 1 s";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(count: number): string {
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))} kB`;
  if (count < 1e9) return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
  return `${(count / 1e9).toFixed(count < 1e10 ? 1 : 0)} GB`;
}

export function many(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}

export function when(unix: number): string {
  const date = new Date(unix * 1000);
  const isToday = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return isToday ? time : `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** Words of the command → those of the page. */
const WORDS: Record<string, string> = { "--audio-start": "the start", "--duration": "the length", "--cut": "a cut", "--seed": "the seed" };

/** What the server says, without what only its other clients know. */
export function inWordsOfThePage(message: string): string {
  const changed = message
    .replace(/--[a-z-]+/g, (option) => WORDS[option] ?? option)
    .replace(": retry tries again", ". Try again goes on where it stopped.")
    .replace(/did not come with the storyboard: .*/, "is not here: drop it together with the storyboard");
  return changed.charAt(0).toUpperCase() + changed.slice(1);
}
