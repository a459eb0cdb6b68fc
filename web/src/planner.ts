/** What the draft will take, as the server plans it: asked a moment after the last change. */

import { ApiError, ask, type Plan } from "./api";
import { draft } from "./draft";
import { toRequest } from "./requests";

const AFTER_MS = 250;

export class Planner extends EventTarget {
  plan: Plan | null = null;
  failure: unknown = null;
  isAsking = false;
  private asked = "";
  private timer = 0;
  private asking: AbortController | null = null;

  /** Ask, where the draft is not the one that was asked about last. */
  look(): void {
    if (!draft.now.sound || draft.now.sound.local) return;
    const wanted = JSON.stringify(toRequest(draft.now));
    if (wanted === this.asked) return;
    this.asked = wanted;
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.ask(wanted), AFTER_MS);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.asked = "";
  }

  private async ask(wanted: string): Promise<void> {
    this.asking?.abort();
    const asking = (this.asking = new AbortController());
    this.isAsking = true;
    this.changed();
    try {
      this.plan = await ask<Plan>("POST", "/v1/plan", JSON.parse(wanted), asking.signal);
      this.failure = null;
    } catch (error) {
      if (asking.signal.aborted) return;
      this.plan = null;
      const isAway = error instanceof ApiError && error.status === 0;
      this.failure = isAway ? null : error;
      if (isAway) this.asked = "";
    }
    this.isAsking = false;
    this.changed();
  }

  private changed(): void {
    this.dispatchEvent(new Event("change"));
  }
}
