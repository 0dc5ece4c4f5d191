/** Every relative link and picture in the docs leads somewhere. */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"

const root = fileURLToPath(new URL("../..", import.meta.url))
const pages = [
  "README.md",
  ...readdirSync(join(root, "docs"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".md"))
    .map((path) => join("docs", path))
]

/** Targets of links and pictures, Markdown's and HTML's, that are neither absolute nor within the page. */
const targetsOf = (text: string): ReadonlyArray<string> => {
  const prose = text.replace(/^```[\s\S]*?^```/gm, "").replace(/`[^`\n]*`/g, "")
  const found = [...prose.matchAll(/\]\(([^)\s]+)\)/g), ...prose.matchAll(/\b(?:src|srcset|href)="([^"]+)"/g)]
  return found.map((match) => match[1] as string).filter((target) => !/^(?:[a-z]+:|#)/.test(target))
}

it("finds links of every kind", () => {
  const text =
    '[a](a.md) ![b](b.svg#x) <img src="c.webp"> [d](https://e.example) [f](#f) `[g](g.md)`\n```\n[h](h.md)\n```\n'
  assert.deepStrictEqual(targetsOf(text), ["a.md", "b.svg#x", "c.webp"])
})

for (const page of pages) {
  it(`${page} links to what exists`, () => {
    const text = readFileSync(join(root, page), "utf8")
    const dead = targetsOf(text).filter(
      (target) => !existsSync(join(root, dirname(page), (target.split("#")[0] as string).replace(/\/$/, "")))
    )
    assert.deepStrictEqual(dead, [])
  })
}

it("every source file that the docs name is there", () => {
  // A decision record stays as it was written, and may name what was or might be.
  const current = pages.filter((page) => !page.includes("decisions"))
  const missing = current.flatMap((page) =>
    [...readFileSync(join(root, page), "utf8").matchAll(/`((?:[a-zA-Z]+\/)+[A-Za-z0-9]+\.ts)`/g)]
      .map((match) => match[1] as string)
      .filter((path) => !existsSync(join(root, "src", path)) && !existsSync(join(root, path)))
      .map((path) => `${page}: ${path}`)
  )
  assert.deepStrictEqual(missing, [])
})
