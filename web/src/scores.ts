/** What a recipe says of how well a video follows its sound, as rows of a time line. */

export interface Recipe {
  score?: Record<string, unknown>;
  [name: string]: unknown;
}

export interface ScoreRow {
  name: string;
  value: string;
  marks: number[]; // seconds
}

/** The rows of a recipe's score; none where it has none. */
export function scoreRows(recipe: Recipe): ScoreRow[] {
  const score = recipe.score ?? {};
  const rows: ScoreRow[] = [];
  for (const [name, part] of Object.entries(score)) {
    const facts = part as { score?: unknown; value?: unknown; hits?: unknown; times?: unknown } | null;
    const value = typeof part === "number" ? part : (facts?.score ?? facts?.value);
    if (typeof value !== "number") continue;
    const marks = facts?.hits ?? facts?.times;
    rows.push({ name, value: value.toFixed(2), marks: Array.isArray(marks) ? marks.filter((one) => typeof one === "number") : [] });
  }
  return rows;
}
