/** Which doors the server has: an older one lacks the newest, and what needs them is not offered. */

import { ask } from "./api";

class Doors extends EventTarget {
  private paths = new Set<string>();

  async load(): Promise<void> {
    const found = await ask<{ paths: object }>("GET", "/openapi.json").catch(() => null);
    this.paths = new Set(Object.keys(found?.paths ?? {}));
    this.dispatchEvent(new Event("change"));
  }

  has(path: string): boolean {
    return this.paths.has(path);
  }
}

export const doors = new Doors();
