/** Shape and quality of the video, what it will take, what renders it. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { ask, type EngineFact, type Models, type Plan } from "./api";
import { errorLine, Part, place, text } from "./base";
import { draft } from "./draft";
import { QUALITIES, qualityOf, SHAPES, sizeOf } from "./quality";
import { bytes, clock, duration, many } from "./words";

@customElement("output-card")
export class OutputCard extends Part {
  @property({ attribute: false }) declare plan: Plan | null;
  @property({ type: Boolean }) declare isPlanning: boolean;
  @property({ type: Boolean }) declare isAsking: boolean;
  @property({ attribute: false }) declare errors: Record<string, string>;
  @state() declare private models: Models["data"];
  @state() declare private engines: EngineFact[];

  constructor() {
    super();
    this.plan = null;
    this.isPlanning = this.isAsking = false;
    this.errors = {};
    this.models = [];
    this.engines = [];
    this.watch(draft);
  }

  override connectedCallback(): void {
    super.connectedCallback();
    void ask<Models>("GET", "/v1/models").then((found) => (this.models = found.data), () => undefined);
    void ask<{ data: EngineFact[] }>("GET", "/v1/engines").then((found) => (this.engines = found.data), () => undefined);
  }

  override render(): TemplateResult {
    const { shape: chosen, quality, size } = draft.now;
    const { name, says } = qualityOf(quality);
    const { width, height, steps } = size ?? sizeOf(chosen, quality);
    return html`<section class="card output" aria-label="Output">
      <fieldset class="shapes">
        <legend>Shape</legend>
        ${SHAPES.map(
          (shape) => html`<label class="shape" title=${shape.name}>
            <input class="unseen" type="radio" name="shape" .checked=${shape.id === chosen} @change=${() => draft.set({ shape: shape.id, size: null })} />
            <span class="frame" aria-hidden="true" ${place({ "aspect-ratio": String(shape.ratio), [shape.ratio > 1 ? "width" : "height"]: "100%" })}></span>
            <span>${shape.id}<span class="unseen"> ${shape.name}</span></span>
          </label>`,
        )}
      </fieldset>
      <div class="quality">
        <label for="quality">Quality <output>${size ? "As opened" : name}</output></label>
        <input id="quality" type="range" min="0" max=${QUALITIES.length - 1} step="1" .value=${String(quality)}
          aria-valuetext="${name}: ${says}" aria-describedby="quality-error"
          ${place({ "--share": `${(quality / (QUALITIES.length - 1)) * 100}%` })}
          @input=${(event: Event) => draft.set({ quality: Number(text(event)), size: null })} />
        <p class="row small muted ends"><span>Quick</span><span>Best</span></p>
        <p class="small muted">${width} × ${height}, ${steps} steps: ${size ? "as it was opened" : says}</p>
        ${errorLine("quality", this.errors.quality)}
      </div>
      ${this.facts()} ${this.engineField()} ${errorLine("render", this.errors.render)}
      <button class="primary big" id="render" title="Ctrl+Enter" aria-describedby="render-error" ?disabled=${this.isAsking} @click=${() => this.emit("render", null)}>
        ${this.isAsking ? html`<span class="spinner" aria-hidden="true"></span>` : nothing}Make the video
      </button>
    </section>`;
  }

  private facts(): TemplateResult {
    const { plan } = this;
    const estimate = plan?.estimated_seconds;
    return html`<dl class="facts ${this.isPlanning ? "stale" : ""}" aria-live="polite" aria-busy=${this.isPlanning}>
      <div><dt>Time</dt><dd>${!plan ? "–" : estimate === null || estimate === undefined ? "not known yet" : duration(estimate)}</dd></div>
      <div><dt>Memory</dt><dd>${plan?.memory_bytes ? bytes(plan.memory_bytes) : "–"}</dd></div>
      <div><dt>Video</dt><dd>${plan ? clock(plan.seconds) : "–"}</dd></div>
      <div><dt>Clips</dt><dd>${plan ? plan.clips.length : "–"}</dd></div>
    </dl>
    ${plan?.notes.length ? html`<ul class="notes small muted">${plan.notes.map((note) => html`<li>${note}</li>`)}</ul>` : nothing}`;
  }

  private engineField(): TemplateResult {
    const chosen = draft.now.model;
    const isGone = chosen !== null && this.models.length > 0 && !this.models.some((model) => model.id === chosen);
    const missing = this.engines.filter((one) => !one.is_here);
    return html`<div class="engine fields">
      <label for="model">Rendered by</label>
      <select id="model" aria-describedby="engine-error" aria-invalid=${!!this.errors.engine} @change=${(event: Event) => draft.set({ model: text(event) })}>
        ${this.models.map((model) => html`<option value=${model.id} ?selected=${model.id === (chosen ?? this.models[0]?.id)}>${this.nameOf(model)}</option>`)}
        ${isGone ? html`<option value=${chosen} selected>${chosen}, which is not here</option>` : nothing}
      </select>
      ${errorLine("engine", this.errors.engine)}
      ${missing.length
        ? html`<details class="small"><summary>${many(missing.length, "more engine")} could be here</summary>
            <ul class="notes muted">${missing.map((one) => html`<li><strong>${one.name}</strong>: ${one.missing}</li>`)}</ul></details>`
        : nothing}
    </div>`;
  }

  private nameOf(model: { id: string; engine: string }): string {
    const engine = this.engines.find((one) => one.engine === model.engine);
    return model.id === model.engine && engine ? engine.name : model.id;
  }
}
