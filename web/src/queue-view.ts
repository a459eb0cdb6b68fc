/** What waits and what renders: where it is, how long it takes, what there is of it already. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import type { Video } from "./api";
import { announce, Part, place as css } from "./base";
import { askBefore } from "./dialogs";
import { draft } from "./draft";
import { icon } from "./icons";
import { jobs } from "./jobs";
import { duration, inWordsOfThePage, many } from "./words";

const STAGES: Record<string, string> = {
  load: "Preparing",
  render: "Rendering",
  interpolate: "Drawing frames between",
  encode: "Writing the video",
  write: "Writing the video",
  verify: "Checking the video",
};
const SHOWN_DONE = 3;
const SHOWN_BROKEN = 4;

@customElement("queue-view")
export class QueueView extends Part {
  @state() declare private errors: Map<string, string>;
  @state() declare private isWhole: boolean;

  constructor() {
    super();
    this.errors = new Map();
    this.isWhole = false;
    this.watch(jobs);
  }

  override render(): TemplateResult {
    const { waiting, broken, finished } = jobs;
    const done = finished.slice(0, SHOWN_DONE);
    return html`
      <h1>Queue</h1>
      ${waiting.length || broken.length
        ? nothing
        : html`<div class="empty card"><p>${done.length ? "All is rendered." : "Nothing waits."}</p><a class="button primary" href="#new">Make a video</a></div>`}
      <ul class="jobs">${repeat(waiting, (one) => one.id, (one) => html`<li>${this.job(one)}</li>`)}</ul>
      ${broken.length
        ? html`<h2>Stopped</h2><ul class="jobs">${repeat(this.isWhole ? broken : broken.slice(0, SHOWN_BROKEN), (one) => one.id, (one) => html`<li>${this.stopped(one)}</li>`)}</ul>
            ${this.isWhole || broken.length <= SHOWN_BROKEN
              ? nothing
              : html`<button class="quiet all" @click=${() => (this.isWhole = true)}>Show all ${broken.length}</button>`}`
        : nothing}
      ${done.length
        ? html`<h2>Just finished</h2><ul class="jobs">${repeat(done, (one) => one.id, (one) => html`<li>${this.done(one)}</li>`)}</ul>`
        : nothing}
    `;
  }

  private job(video: Video): TemplateResult {
    const { live } = video;
    const title = jobs.title(video);
    return html`<article class="card job" aria-label=${title}>
      <div class="seen ${video.state}" ${css({ "aspect-ratio": video.size.replace("x", " / ") })}>${this.picture(video)}</div>
      <div class="facts-of">
        <header class="row"><h3 class="ellipsis grow">${title}</h3>
          <button class="quiet" ?disabled=${video.is_stopping} @click=${() => void this.change(video, "cancel")} aria-label="${video.is_stopping ? "Stopping" : "Cancel"} ${title}">
            ${video.is_stopping ? "Stopping" : "Cancel"}
          </button></header>
        <p class="muted small">${shape(video)}</p>
        ${words(video)}
        ${video.state === "queued"
          ? html`<p class="stage">${place(video)}</p>`
          : html`<p class="stage">${stage(video)}
                ${live?.eta_seconds ? html`<span class="muted nowrap">${duration(live.eta_seconds)} left</span>` : nothing}</p>
              <progress max="100" value=${video.progress} aria-label="${title}: ${video.progress} percent"></progress>`}
        ${this.error(video.id)}
      </div>
    </article>`;
  }

  private picture(video: Video): TemplateResult {
    if (video.links.partial) {
      return html`<video src=${video.links.partial} controls loop muted playsinline preload="metadata" aria-label="What there is so far"></video>
        <span class="badge">so far</span>`;
    }
    if (video.links.preview) return html`<img src=${video.links.preview} alt="The newest picture of it" />`;
    return html`<span class="sleeping" aria-hidden="true"><i></i><i></i><i></i><i></i><i></i></span>`;
  }

  private stopped(video: Video): TemplateResult {
    const title = jobs.title(video);
    const isCancelled = video.state === "cancelled";
    return html`<article class="card job slim ${video.state}" aria-label=${title}>
      <div class="facts-of">
        <header class="row wrap"><h3 class="ellipsis grow">${title}</h3>
          <button class="quiet" @click=${() => void this.change(video, "retry")} aria-label="${isCancelled ? "Go on" : "Try again"}: ${title}">${icon("again")}${isCancelled ? "Go on" : "Try again"}</button>
          <button class="quiet" @click=${() => void this.edit(video)} aria-label="Change the settings of ${title}">Change</button>
          <button class="quiet round" @click=${() => void this.discard(video)} aria-label="Remove ${title}">${icon("trash")}</button></header>
        <p class="muted small">${shape(video)}</p>
        ${words(video)}
        ${isCancelled
          ? html`<p class="muted">Cancelled. What was rendered is kept until you remove it.</p>`
          : html`<p class="error">${icon("warn")}<span>${inWordsOfThePage(video.error?.message ?? "it failed")}</span></p>`}
        ${this.error(video.id)}
      </div>
    </article>`;
  }

  private done(video: Video): TemplateResult {
    const title = jobs.title(video);
    return html`<article class="card job slim" aria-label=${title}>
      <a class="seen small" href="#gallery/${video.id}" aria-label="Look at ${title}"><img src=${video.links.thumbnail!} alt="" loading="lazy" /></a>
      <div class="facts-of">
        <header class="row"><h3 class="ellipsis grow">${title}</h3>
          <a class="button quiet" href="#gallery/${video.id}" aria-label="Watch ${title}">Watch</a>
          <a class="button primary" href=${video.links.content!} download=${fileName(video)} aria-label="Download ${title}">${icon("download")}Download</a></header>
        <p class="muted small">${shape(video)}</p>
      </div>
    </article>`;
  }

  private async change(video: Video, what: "cancel" | "retry"): Promise<void> {
    await this.try(video, () => jobs.change(video.id, what));
    announce(what === "cancel" ? "Cancelled" : "In the queue again");
  }

  private async discard(video: Video): Promise<void> {
    if (!(await askBefore(`Remove the video of “${jobs.title(video)}”?`, "The clips that were rendered are deleted. This cannot be undone.", "Remove"))) return;
    await this.try(video, () => jobs.remove(video.id));
  }

  private async edit(video: Video): Promise<void> {
    await draft.again(video);
    location.hash = "new";
  }

  private async try(video: Video, what: () => Promise<void>): Promise<void> {
    this.errors.delete(video.id);
    await what().catch((error: Error) => this.errors.set(video.id, error.message));
    this.requestUpdate();
  }

  private error(id: string): TemplateResult | typeof nothing {
    const message = this.errors.get(id);
    return message ? html`<p class="error" role="alert">${icon("warn")}<span>${message}</span></p>` : nothing;
  }
}

function stage(video: Video): string {
  const { live } = video;
  if (!live) return "Starting";
  if (live.stage !== "render") return live.what || STAGES[live.stage] || live.stage;
  const clip = live.clips ? `clip ${live.clip ?? 1} of ${live.clips}` : "";
  const step = live.steps && live.steps > 1 ? `step ${live.step ?? 0} of ${live.steps}` : "";
  return ["Rendering", clip, step].filter(Boolean).join(" · ");
}

function place(video: Video): string {
  if (!video.position) return "Next in line";
  return `${many(video.position, "video")} before it`;
}

function words(video: Video): TemplateResult | typeof nothing {
  return video.prompt ? html`<p class="small ellipsis">${video.prompt}</p>` : nothing;
}

export function shape(video: Video): string {
  const { shots, clips } = video.plan;
  const cuts = shots.length > 1 ? many(shots.length, "shot") : many(clips, "clip");
  return `${video.size.replace("x", " × ")} · ${Number(video.seconds).toFixed(1)} s · ${cuts} · ${video.model}`;
}

export function fileName(video: Video): string {
  return `${jobs.title(video).replace(/[^\p{L}\p{N} ._-]/gu, "_")}.mp4`;
}
