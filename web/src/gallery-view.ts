/** Finished videos: one close up, or takes side by side. */

import { html, nothing, type PropertyValues, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { ask, type PlanShot, type Storyboard, type Video } from "./api";
import { announce, Part, place } from "./base";
import { doors } from "./doors";
import { askBefore } from "./dialogs";
import { draft } from "./draft";
import { icon } from "./icons";
import { jobs } from "./jobs";
import { fileName, shape } from "./queue-view";
import { scoreFacts, weaknesses, type Recipe } from "./scores";
import { saveText } from "./storyboards";
import { bytes, clock, when } from "./words";

const COMPARE = "compare/";

@customElement("gallery-view")
export class GalleryView extends Part {
  @property() declare chosen: string;
  @state() declare private marked: string[];
  @state() declare private recipe: Recipe | null;
  @state() declare private error: string;
  @state() declare private time: number;
  @state() declare private isGone: boolean;
  private seen = "";

  constructor() {
    super();
    this.chosen = "";
    this.marked = [];
    this.recipe = null;
    this.error = "";
    this.time = 0;
    this.isGone = false;
    this.watch(jobs, doors);
  }

  override willUpdate(changed: PropertyValues<this>): void {
    if (!changed.has("chosen")) return;
    this.recipe = null;
    this.error = "";
    this.isGone = false;
    if (this.chosen && !this.takes.length) void this.load(this.chosen);
  }

  override updated(changed: PropertyValues<this>): void {
    if (changed.has("chosen") && changed.get("chosen") !== undefined) this.querySelector<HTMLElement>("h1")?.focus();
  }

  private async load(id: string): Promise<void> {
    if (!jobs.find(id)) await ask<Video>("GET", `/v1/videos/${id}`).then((video) => jobs.put(video), () => (this.isGone = this.chosen === id));
    const recipe = await ask<Recipe>("GET", `/v1/videos/${id}/recipe`).catch(() => null);
    if (this.chosen === id) this.recipe = recipe;
  }

  /** Ids of what is to be seen side by side. */
  private get takes(): string[] {
    return this.chosen.startsWith(COMPARE) ? this.chosen.slice(COMPARE.length).split("+") : [];
  }

  override render(): TemplateResult {
    if (this.takes.length) return this.sideBySide();
    const video = this.chosen ? jobs.find(this.chosen) : undefined;
    if (video) this.seen = video.id;
    if (video?.state === "succeeded") return this.closeUp(video);
    if (this.chosen) return this.missing(video);
    return this.all();
  }

  private missing(video: Video | undefined): TemplateResult {
    const says = video ? "This video is not finished." : "This video is not here any more: it was removed.";
    return html`<p><a class="back" href="#gallery">${icon("back")}Gallery</a></p>
      <h1 tabindex="-1" class="unseen">Gallery</h1>
      ${video || this.isGone || this.seen === this.chosen
        ? html`<div class="empty card"><p role="status">${says}</p>
            ${video ? html`<a class="button primary" href="#queue">To the queue</a>` : html`<a class="button primary" href="#gallery">To the others</a>`}</div>`
        : nothing}`;
  }

  private all(): TemplateResult {
    const videos = jobs.finished;
    const marked = this.marked.filter((id) => jobs.find(id));
    if (jobs.isLoaded && !videos.length) {
      return html`<h1 tabindex="-1">Gallery</h1>
        <div class="empty card"><p>Your videos will be here.</p><a class="button primary" href="#new">Make the first one</a></div>`;
    }
    return html`<header class="row wrap"><h1 class="grow" tabindex="-1">Gallery</h1>
        <button class="quiet" ?disabled=${marked.length < 2} @click=${() => compare(marked)}>
          ${icon("compare")}${marked.length < 2 ? "Mark two to compare" : `Compare ${marked.length}`}
        </button></header>
      <ul class="gallery">
        ${repeat(videos, (one) => one.id, (one) => html`<li>${this.tile(one)}</li>`)}
      </ul>
      ${jobs.hasOlder ? html`<button class="quiet all" @click=${() => void jobs.loadOlder()}>Show older ones</button>` : nothing}`;
  }

  private tile(video: Video): TemplateResult {
    const title = jobs.title(video);
    const isMarked = this.marked.includes(video.id);
    return html`<article class="tile ${isMarked ? "marked" : ""}">
      <a href="#gallery/${video.id}" aria-label="${title}, ${clock(Number(video.seconds))}, ${when(video.created_at)}"><img src=${video.links.thumbnail!} alt="" loading="lazy" />
        <span class="badge">${clock(Number(video.seconds))}</span></a>
      <label class="mark"><input type="checkbox" .checked=${isMarked} aria-label="Mark ${title}, ${when(video.created_at)}, to compare"
        @change=${() => this.mark(video.id)} /></label>
      <p class="row"><span class="ellipsis grow">${title}</span><span class="muted small nowrap">${when(video.created_at)}</span></p>
      <p class="muted small ellipsis">${video.prompt ?? "no words"}</p>
    </article>`;
  }

  private mark(id: string): void {
    this.marked = this.marked.includes(id) ? this.marked.filter((one) => one !== id) : [...this.marked, id].slice(-4);
  }

  // one video

  private closeUp(video: Video): TemplateResult {
    const title = jobs.title(video);
    const shots = video.plan.shots;
    return html`<p><a class="back" href="#gallery">${icon("back")}Gallery</a></p>
      <article class="close-up">
        <div class="stage-of">
          <video src=${video.links.content!} controls loop playsinline preload="metadata" aria-label=${title} ${place({ "--ratio": String(ratio(video)) })}
            @timeupdate=${(event: Event) => (this.time = (event.target as HTMLVideoElement).currentTime)}></video>
          ${shots.length > 1 || this.recipe?.scores ? this.timeLine(video, shots) : nothing}
          <figure class="sheet"><img src="/v1/videos/${video.id}/sheet" alt="Pictures of the video from beginning to end" /></figure>
        </div>
        <div class="about">
          <h1 tabindex="-1">${title}</h1>
          <p class="muted">${when(video.created_at)} · ${video.result ? bytes(video.result.bytes) : ""}</p>
          ${video.prompt ? html`<p class="words">${video.prompt}</p>` : nothing}
          <p class="small muted">${shape(video)} · seed ${video.request.fields.seed ?? 0}</p>
          ${this.origin(video)}
          <div class="actions">
            <a class="button primary" href=${video.links.content!} download=${fileName(video)}>${icon("download")}Download the video</a>
            <button class="quiet" @click=${() => void this.again(video)}>${icon("again")}Again with these settings</button>
            <a class="button quiet" href="/v1/videos/${video.id}/recipe" download="${fileName(video)}.json">${icon("download")}Recipe</a>
            ${doors.has("/v1/videos/{id}/storyboard")
              ? html`<button class="quiet" @click=${() => void this.storyboard(video)}>${icon("download")}Storyboard</button>`
              : nothing}
            <button class="quiet danger" @click=${() => void this.discard(video)}>${icon("trash")}Remove</button>
          </div>
          <p class="error" role="alert">${this.error}</p>
          ${shots.length > 1 ? this.shotList(video, shots) : nothing}
          ${video.notes.length ? html`<ul class="notes small muted">${video.notes.map((note) => html`<li>${note}</li>`)}</ul>` : nothing}
        </div>
      </article>`;
  }

  private origin(video: Video): TemplateResult | typeof nothing {
    const { redo } = video.request;
    if (!redo) return nothing;
    return html`<p class="small">${redo.shot} was drawn again.
      ${jobs.find(redo.of) ? html`<button class="link" @click=${() => compare([redo.of, video.id])}>Compare with the video before</button>` : nothing}</p>`;
  }

  private timeLine(video: Video, shots: PlanShot[]): TemplateResult {
    const total = video.plan.seconds;
    const share = (time: number) => `${(100 * time) / total}%`;
    const span = (one: { start: number; stop: number }) => ({ left: share(one.start), width: share(one.stop - one.start) });
    const facts = this.recipe ? scoreFacts(this.recipe) : [];
    const weak = this.recipe ? weaknesses(this.recipe) : [];
    const row = html`<div class="score-row">
      ${shots.map((shot) => html`<span class="score-shot" ${place(span(shot))}>${shot.name || shot.index + 1}</span>`)}
      <span class="now" ${place({ left: share(this.time) })}></span>
    </div>`;
    return html`<div class="score" role="img" aria-label="Shots of the video${weak.length ? ", and how well each follows the sound" : ""}">
        ${shots.length > 1 ? row : nothing}
        ${weak.length
          ? html`<div class="score-row thin">${weak.map(
              (one) => html`<span class="score-part" title="${one.says}: ${Math.round(100 * (1 - one.weakness))} of 100" ${place(span(one))}
                ><i ${place({ height: `${Math.max(6, 100 * (1 - one.weakness))}%` })}></i></span>`,
            )}</div>`
          : nothing}
      </div>
      ${weak.length ? html`<p class="small muted">The higher, the better a part follows the sound.</p>` : nothing}
      ${facts.length
        ? html`<dl class="facts scores">${facts.map((one) => html`<div><dt>${one.name}</dt><dd>${one.value}</dd><p class="small muted">${one.says}</p></div>`)}</dl>`
        : nothing}`;
  }

  private shotList(video: Video, shots: PlanShot[]): TemplateResult {
    return html`<h2>Shots</h2><ul class="shot-list">${shots.map(
      (shot) => html`<li class="row">
        <button class="plain grow" @click=${() => this.seek(shot.start)}><span class="muted nowrap">${clock(shot.start)}</span> ${shot.name || `Shot ${shot.index + 1}`}</button>
        ${doors.has("/v1/videos/{id}/shots/{name}/redo") && shot.name
          ? html`<button class="quiet small" @click=${() => void this.redo(video, shot)} aria-label="Redo ${shot.name}">${icon("again")}Redo</button>`
          : nothing}
      </li>`,
    )}</ul>`;
  }

  private seek(time: number): void {
    const video = this.querySelector("video");
    if (video) video.currentTime = time;
  }

  private async storyboard(video: Video): Promise<void> {
    this.error = "";
    try {
      const { toml } = await ask<Storyboard>("GET", `/v1/videos/${video.id}/storyboard`);
      saveText(toml, fileName(video).replace(/mp4$/, "toml"));
    } catch (error) {
      this.error = (error as Error).message;
    }
  }

  private async again(video: Video): Promise<void> {
    await draft.again(video);
    location.hash = "new";
  }

  private async redo(video: Video, shot: PlanShot): Promise<void> {
    this.error = "";
    try {
      jobs.put(await ask<Video>("POST", `/v1/videos/${video.id}/shots/${encodeURIComponent(shot.name!)}/redo`, {}));
      announce("The shot is in the queue");
      location.hash = "queue";
    } catch (error) {
      this.error = (error as Error).message;
    }
  }

  private async discard(video: Video): Promise<void> {
    if (!(await askBefore(`Remove the video of “${jobs.title(video)}”?`, "The video and its clips are deleted. This cannot be undone.", "Remove"))) return;
    try {
      await jobs.remove(video.id);
      this.marked = this.marked.filter((id) => id !== video.id);
      announce("Removed");
      location.hash = "gallery";
    } catch (error) {
      this.error = (error as Error).message;
    }
  }

  // takes

  private sideBySide(): TemplateResult {
    const videos = this.takes.map((id) => jobs.find(id)).filter((one) => one !== undefined).filter((one) => one.state === "succeeded");
    return html`<p><a class="back" href="#gallery">${icon("back")}Gallery</a></p>
      <header class="row wrap"><h1 class="grow" tabindex="-1">Side by side</h1>
        <button class="primary" @click=${this.playAll}>${icon("play")}Play together</button></header>
      <div class="takes">${videos.map(
        (video) => html`<figure><video src=${video.links.content!} controls loop playsinline ?muted=${video !== videos[0]} preload="auto" aria-label=${jobs.title(video)}></video>
          <figcaption><p class="row"><strong class="ellipsis grow">${jobs.title(video)}</strong><a class="small" href="#gallery/${video.id}">Look closer</a></p>
          <p class="muted small">${shape(video)} · seed ${video.request.fields.seed ?? 0}</p><p class="small muted">${video.prompt ?? ""}</p></figcaption></figure>`,
      )}</div>`;
  }

  private playAll(): void {
    for (const video of this.querySelectorAll("video")) {
      video.currentTime = 0;
      void video.play();
    }
  }
}

/** Width to height. */
function ratio(video: Video): number {
  const [width = 1, height = 1] = video.size.split("x").map(Number);
  return width / height;
}

function compare(ids: readonly string[]): void {
  location.hash = `gallery/${COMPARE}${ids.join("+")}`;
}
