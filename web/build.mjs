// Bundles the page into the server's static folder: index.html, one script and one style sheet whose names change with
// what is in them, and the licences of the libraries inside.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import esbuild from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const TARGET = process.env.SOUNDREEL_STATIC ?? join(HERE, "..", "src", "soundreel", "server", "static");

// The page's policy allows no style in its text: a style element of a library becomes a sheet that is adopted.
const STYLE = /<style[^]*?>([^]*?)<\/style>/;
const adoptStyles = {
  name: "adopt-styles",
  setup(build) {
    build.onLoad({ filter: /wavesurfer\.js[\\/]dist[\\/].*\.js$/ }, async ({ path }) => {
      const text = await readFile(path, "utf8");
      if (!text.includes("<style")) return { contents: text };
      const style = text.match(/<style\$\{[^]*?\}>([^]*?)<\/style>/);
      const roots = text.match(/attachShadow\(\{mode:"open"\}\)/g) ?? [];
      if (!style || roots.length !== 1) throw new Error(`${path} has styles that are not known`);
      const rules = style[1].replaceAll("\\n", "\n").replace(/min-height: \$\{[^]*?\}px/, "min-height: var(--wave-height, 0)");
      if (rules.includes("${") || STYLE.test(text.replace(style[0], ""))) throw new Error(`${path} has more styles`);
      const adopt = `const sheet__ = new CSSStyleSheet(); sheet__.replaceSync(${JSON.stringify(rules)});
const adopt__ = (root) => { root.adoptedStyleSheets = [sheet__]; return root; };\n`;
      const changed = text
        .replace(style[0], "")
        .replace(/(\w+)\.attachShadow\(\{mode:"open"\}\)/, 'adopt__($1.attachShadow({mode:"open"}))');
      return { contents: adopt + changed };
    });
  },
};

const made = await esbuild.build({
  entryPoints: [{ in: join(HERE, "src", "main.ts"), out: "studio" }, { in: join(HERE, "src", "studio.css"), out: "studio" }],
  outdir: TARGET,
  entryNames: "[name]-[hash]",
  bundle: true,
  format: "esm",
  target: ["chrome111", "firefox113", "safari16.4"],
  minify: true,
  metafile: true,
  write: false,
  legalComments: "none",
  plugins: [adoptStyles],
  logLevel: "warning",
});

await rm(TARGET, { recursive: true, force: true });
await mkdir(TARGET, { recursive: true });
const names = {};
for (const file of made.outputFiles) {
  const name = file.path.slice(dirname(file.path).length + 1);
  names[name.endsWith(".css") ? "css" : "js"] = name;
  await writeFile(join(TARGET, name), file.contents);
}
const icon = await readFile(join(HERE, "src", "icon.svg"));
names.icon = `icon-${createHash("sha256").update(icon).digest("hex").slice(0, 8)}.svg`;
await writeFile(join(TARGET, names.icon), icon);
const page = await readFile(join(HERE, "src", "index.html"), "utf8");
await writeFile(join(TARGET, "index.html"), page.replace(/\{\{(\w+)\}\}/g, (_, key) => names[key]));
await writeFile(join(TARGET, "licences.txt"), await licences(Object.keys(made.metafile.inputs)));
const size = made.outputFiles.reduce((sum, file) => sum + file.contents.length, 0);
console.log(`${TARGET}: ${Math.round(size / 1024)} kB`);

/** The licence of each package of which something is in the bundle. */
async function licences(inputs) {
  const packages = new Set(inputs.flatMap((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []));
  const texts = [];
  for (const name of [...packages].sort()) {
    const folder = join(HERE, "node_modules", name);
    const facts = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
    if (!file) throw new Error(`${name} has no licence text`);
    texts.push(`${name} ${facts.version} (${facts.license})\n\n${(await readFile(join(folder, file), "utf8")).trim()}\n`);
  }
  return texts.join(`\n${"-".repeat(80)}\n\n`);
}
