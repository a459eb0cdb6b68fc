/** Dark or light: as the system says, until somebody chooses. */

const KEY = "soundreel.theme";

class Theme extends EventTarget {
  private system = matchMedia("(prefers-color-scheme: dark)");
  private chosen: string | null = stored();

  constructor() {
    super();
    this.system.addEventListener("change", () => this.apply());
    this.apply();
  }

  get isDark(): boolean {
    return this.chosen ? this.chosen === "dark" : this.system.matches;
  }

  toggle(): void {
    this.chosen = this.isDark ? "light" : "dark";
    try {
      localStorage.setItem(KEY, this.chosen);
    } catch {
      // it lasts as long as the page
    }
    this.apply();
  }

  private apply(): void {
    document.documentElement.dataset.theme = this.isDark ? "dark" : "light";
    this.dispatchEvent(new Event("change"));
  }
}

function stored(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

/** A colour of the sheet, for what is drawn by script. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export const theme = new Theme();
