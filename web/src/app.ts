/** The frame of the page: where one is, whether the server is there, the token where it asks for one. */

import { html, nothing, type TemplateResult } from "lit";
import { customElement, query, state } from "lit/decorators.js";
import { ApiError, ask, LOGIN_NEEDED } from "./api";
import { Part } from "./base";
import { doors } from "./doors";
import { icon } from "./icons";
import { jobs } from "./jobs";
import { theme } from "./theme";
import "./dialogs";
import "./new-view";
import "./queue-view";
import "./gallery-view";

type Place = "new" | "queue" | "gallery";
const PLACES: { id: Place; name: string }[] = [
  { id: "new", name: "New" },
  { id: "queue", name: "Queue" },
  { id: "gallery", name: "Gallery" },
];

@customElement("studio-app")
export class StudioApp extends Part {
  @state() declare private place: Place;
  @state() declare private rest: string;
  @state() declare private loginError: string;
  @query("dialog.login") declare private login: HTMLDialogElement;

  constructor() {
    super();
    this.loginError = "";
    this.watch(jobs, theme);
    this.read();
    window.addEventListener("hashchange", () => this.read());
    window.addEventListener(LOGIN_NEEDED, () => this.login && !this.login.open && this.login.showModal());
  }

  override async firstUpdated(): Promise<void> {
    const given = new URLSearchParams(location.hash.slice(1));
    if (given.has("token")) {
      await ask("POST", "/v1/login", { token: given.get("token") }).catch(() => undefined);
      history.replaceState(null, "", `#${given.get("to") ?? "new"}`);
      this.read();
    }
    await ask("GET", "/v1/status").catch(() => undefined);
    jobs.listen();
    void doors.load();
  }

  private read(): void {
    const [place, ...rest] = location.hash.slice(1).split("/");
    this.place = PLACES.some((one) => one.id === place) ? (place as Place) : "new";
    this.rest = rest.join("/");
    document.title = `${PLACES.find((one) => one.id === this.place)!.name} · soundreel studio`;
  }

  override render(): TemplateResult {
    const waiting = jobs.waiting.length;
    return html`
      <a class="skip" href="#main" @click=${this.skip}>Skip to the content</a>
      <header class="bar">
        <a class="brand" href="#new" aria-label="soundreel studio, new video">
          <svg viewBox="0 0 32 32" aria-hidden="true"><path d="M6 13v6M11 9.5v13M16 6v20M21 11v10M26 14v4" /></svg>
          <span>soundreel</span>
        </a>
        <nav aria-label="Main">
          ${PLACES.map(
            ({ id, name }) => html`<a href="#${id}" aria-current=${this.place === id ? "page" : nothing}
              >${name}${id === "queue" && waiting
                ? html`<span class="count" aria-label="${waiting} waiting or rendering">${waiting}</span>`
                : nothing}</a
            >`,
          )}
        </nav>
        <button class="quiet round" @click=${() => theme.toggle()} aria-label="${theme.isDark ? "Light" : "Dark"} colours">
          ${icon(theme.isDark ? "sun" : "moon")}
        </button>
      </header>
      ${jobs.isOnline
        ? nothing
        : html`<p class="offline" role="status">
            <span class="spinner" aria-hidden="true"></span>The server does not answer. Nothing is lost: this page goes on
            by itself when it is back.
          </p>`}
      <main id="main" tabindex="-1">${this.content()}</main>
      <div id="announcer" class="unseen" aria-live="polite"></div>
      ${this.loginDialog()}
      <ask-dialog></ask-dialog>
    `;
  }

  private content(): TemplateResult {
    if (this.place === "queue") return html`<queue-view></queue-view>`;
    if (this.place === "gallery") return html`<gallery-view .chosen=${this.rest}></gallery-view>`;
    return html`<new-view .wish=${this.rest}></new-view>`;
  }

  private skip(event: Event): void {
    event.preventDefault();
    this.querySelector("main")?.focus();
  }

  private loginDialog(): TemplateResult {
    return html`<dialog class="login" aria-labelledby="login-title">
      <form method="dialog" @submit=${this.enter}>
        <h2 id="login-title">This server asks for its token</h2>
        <p class="muted">It is in the file that <code>--token-file</code> names, on the machine that runs it.</p>
        <input class="unseen" autocomplete="username" value="soundreel" tabindex="-1" aria-hidden="true" />
        <label for="token">Token</label>
        <input id="token" type="password" autocomplete="current-password" required aria-describedby="token-error" />
        <p id="token-error" class="error" role="alert">${this.loginError}</p>
        <button class="primary">Open the studio</button>
      </form>
    </dialog>`;
  }

  private async enter(event: Event): Promise<void> {
    event.preventDefault();
    const token = this.querySelector<HTMLInputElement>("#token")!.value.trim();
    try {
      await ask("POST", "/v1/login", { token });
      location.reload();
    } catch (error) {
      this.loginError = error instanceof ApiError ? error.message : String(error);
    }
  }
}
