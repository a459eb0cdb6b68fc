import { svg, html, type TemplateResult } from "lit";

const PATHS = {
  play: svg`<path d="M8 5.5v13l10.5-6.5z" fill="currentColor" stroke="none"/>`,
  pause: svg`<path d="M8.5 5.5v13M15.5 5.5v13" stroke-width="3"/>`,
  plus: svg`<path d="M12 5v14M5 12h14"/>`,
  minus: svg`<path d="M5 12h14"/>`,
  fit: svg`<path d="M4 8V5h3M20 8V5h-3M4 16v3h3M20 16v3h-3M8 12h8"/>`,
  sun: svg`<circle cx="12" cy="12" r="4"/><path d="M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M18.4 5.6L17 7M7 17l-1.4 1.4"/>`,
  moon: svg`<path d="M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z"/>`,
  download: svg`<path d="M12 4v11M7 11l5 5 5-5M5 20h14"/>`,
  again: svg`<path d="M4 12a8 8 0 1 1 2.5 5.8M4 19v-5h5"/>`,
  trash: svg`<path d="M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12"/>`,
  picture: svg`<rect x="4" y="5" width="16" height="14" rx="2"/><path d="M4 16l4.5-4.5 4 4 2.5-2.5 5 5"/><circle cx="15.5" cy="9.5" r="1.2"/>`,
  compare: svg`<rect x="4" y="5" width="7" height="14" rx="1.5"/><rect x="13" y="5" width="7" height="14" rx="1.5"/>`,
  warn: svg`<path d="M12 4l9 16H3zM12 10v4.5M12 17.2v.1"/>`,
  undo: svg`<path d="M9 7L4 12l5 5M4 12h10a6 6 0 0 1 6 6v1"/>`,
  redo: svg`<path d="M15 7l5 5-5 5M20 12H10a6 6 0 0 0-6 6v1"/>`,
  cut: svg`<circle cx="6" cy="7" r="2.5"/><circle cx="6" cy="17" r="2.5"/><path d="M8 8.5l12 8M8 15.5l12-8"/>`,
  open: svg`<path d="M4 19V6h6l2 2.5h8V19z"/>`,
  back: svg`<path d="M15 5l-7 7 7 7"/>`,
};

export function icon(name: keyof typeof PATHS): TemplateResult {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">${PATHS[name]}</svg>`;
}
