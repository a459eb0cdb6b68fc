/** All jobs of the server, kept up to date by its events; the same in every tab. */

import { ask, fileInfo, type Video } from "./api";
import { parseJson } from "./json";

const AGAIN_MS = 1500;
const MOST = 100;

interface Page {
  data: Video[];
  has_more: boolean;
}

class Jobs extends EventTarget {
  private videos = new Map<string, Video>();
  private stream: EventSource | null = null;
  private timer = 0;
  isOnline = true;
  isLoaded = false;
  hasOlder = false;
  names = new Map<string, string>();

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pause() : this.listen()));
  }

  /** Newest first. */
  get all(): Video[] {
    return [...this.videos.values()].sort((a, b) => b.created_at - a.created_at || (a.id < b.id ? 1 : -1));
  }

  get waiting(): Video[] {
    const open = this.all.filter((video) => video.state === "queued" || video.state === "running");
    return open.sort((a, b) => (a.position ?? -1) - (b.position ?? -1) || a.created_at - b.created_at);
  }

  get broken(): Video[] {
    return this.all.filter((video) => video.state === "failed" || video.state === "cancelled");
  }

  get finished(): Video[] {
    return this.all.filter((video) => video.state === "succeeded");
  }

  find(id: string): Video | undefined {
    return this.videos.get(id);
  }

  /** Begin, or begin again: what there is now, then every change. */
  listen(): void {
    if (this.stream) return;
    clearTimeout(this.timer);
    const stream = new EventSource("/v1/events");
    this.stream = stream;
    stream.addEventListener("open", () => {
      this.isOnline = true;
      void this.load();
    });
    stream.addEventListener("video", (event) => this.put(parseJson<Video>((event as MessageEvent<string>).data)));
    stream.addEventListener("deleted", (event) => {
      this.videos.delete((JSON.parse((event as MessageEvent<string>).data) as { id: string }).id);
      this.changed();
    });
    stream.addEventListener("error", () => {
      this.isOnline = false;
      this.changed();
      this.pause();
      this.timer = window.setTimeout(() => this.listen(), AGAIN_MS);
    });
  }

  /** A tab that nobody sees holds no connection. */
  private pause(): void {
    clearTimeout(this.timer);
    this.stream?.close();
    this.stream = null;
  }

  private async load(): Promise<void> {
    const page = await ask<Page>("GET", `/v1/videos?limit=${MOST}`).catch(() => null);
    if (!page) return;
    this.videos.clear();
    this.isLoaded = true;
    this.add(page);
  }

  /** Those before the oldest one that is known. */
  async loadOlder(): Promise<void> {
    const oldest = this.all.at(-1);
    if (oldest) this.add(await ask<Page>("GET", `/v1/videos?limit=${MOST}&after=${oldest.id}`));
  }

  private add(page: Page): void {
    for (const video of page.data) {
      this.videos.set(video.id, video);
      this.name(video);
    }
    this.hasOlder = page.has_more;
    this.changed();
  }

  put(video: Video): void {
    this.videos.set(video.id, video);
    this.name(video);
    this.changed();
  }

  async change(id: string, what: "cancel" | "retry"): Promise<void> {
    this.put(await ask<Video>("POST", `/v1/videos/${id}/${what}`));
  }

  async remove(id: string): Promise<void> {
    await ask("DELETE", `/v1/videos/${id}`);
    this.videos.delete(id);
    this.changed();
  }

  /** What people call a job: its sound. */
  title(video: Video): string {
    return (this.names.get(video.request.files.audio ?? "") ?? "Untitled").replace(/\.\w{2,5}$/, "");
  }

  private name(video: Video): void {
    const sound = video.request.files.audio;
    if (!sound || this.names.has(sound)) return;
    void fileInfo(sound).then(
      (info) => {
        this.names.set(sound, info.filename);
        this.changed();
      },
      () => undefined,
    );
  }

  private changed(): void {
    this.dispatchEvent(new Event("change"));
  }
}

export const jobs = new Jobs();
