/**
 * Tables in the docs that say what the source says. `npx vitest run --config .config/vitest.config.ts test/docs -u` writes them anew.
 */
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, expect, it } from "@effect/vitest"
import { Option } from "effect"
import { settings } from "../../src/server/ServerConfig.ts"
import { table } from "../../src/tunnel/Limits.ts"
import { readTree } from "../SourceTree.ts"

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const tree = readTree(at("src"))

const rows = (head: ReadonlyArray<string>, body: ReadonlyArray<ReadonlyArray<string>>): string =>
  [head, head.map(() => "---"), ...body].map((cells) => `| ${cells.join(" | ")} |`).join("\n")

/** The page with its table put in, whatever stood there before. */
const withTable = (path: string, content: string): string => {
  const page = readFileSync(at(path), "utf8")
  const marked = /(<!-- table -->\n)[\s\S]*?(<!-- \/table -->)/
  assert.match(page, marked, `${path} has a place for its table`)
  return page.replace(marked, (_, open: string, close: string) => `${open}${content}\n${close}`)
}

const size = (value: number, unit: string): string => {
  if (unit !== "bytes" || value === 0) return `${value.toLocaleString("en-US")} ${unit}`
  if (value % (1024 * 1024) === 0) return `${value / 1024 / 1024} MiB`
  return value % 1024 === 0 ? `${value / 1024} KiB` : `${value} bytes`
}

it("limits.md is what Limits.ts says", async () => {
  const body = Object.entries(table).map(([name, { enforcedBy, unit, value, why }]) => [
    `\`${name}\``,
    size(value, unit),
    why,
    `\`${enforcedBy}\``
  ])
  await expect(withTable("docs/limits.md", rows(["limit", "value", "why", "enforced by"], body))).toMatchFileSnapshot(
    at("docs/limits.md")
  )
})

it("every limit names a file that exists and mentions it", () => {
  const wrong = Object.entries(table).filter(
    ([name, { enforcedBy }]) => !tree.some((file) => file.path === enforcedBy && file.text.includes(name))
  )
  assert.deepStrictEqual(
    wrong.map(([name, { enforcedBy }]) => `${name}: ${enforcedBy}`),
    []
  )
})

it("metrics.md is what the source counts", async () => {
  const declared = /Metric\.(counter|gauge|histogram|summary|frequency)\(\s*"([a-z_]+)"/g
  const body: Array<ReadonlyArray<string>> = []
  for (const file of tree) {
    for (const match of file.text.matchAll(declared)) {
      const rest = file.text.slice(match.index, match.index + 400)
      const description = /description:\s*"([^"]+)"/.exec(rest)?.[1]
      assert.isDefined(description, `${match[2]} in ${file.path} has a description`)
      body.push([`\`${match[2]}\``, match[1] as string, description as string, `\`${file.path}\``])
    }
  }
  assert.isNotEmpty(body)
  assert.strictEqual(new Set(body.map(([name]) => name)).size, body.length, "no metric is declared twice")
  body.sort((a, b) => (a[0] as string).localeCompare(b[0] as string))
  await expect(withTable("docs/metrics.md", rows(["metric", "kind", "means", "file"], body))).toMatchFileSnapshot(
    at("docs/metrics.md")
  )
})

it("configuration.md is what ServerConfig.ts accepts", async () => {
  const body = Object.entries(settings).map(([key, { env, expects, fallback, flag, means }]) => [
    flag === undefined ? "none" : `\`${flag}\``,
    `\`${env}\``,
    `\`${key}\``,
    Option.isOption(fallback) ? "none" : `\`${fallback}\``,
    expects,
    means
  ])
  await expect(
    withTable("docs/configuration.md", rows(["flag", "variable", "key", "default", "expects", "means"], body))
  ).toMatchFileSnapshot(at("docs/configuration.md"))
})

it("the index of decisions lists every one", async () => {
  const records = readdirSync(at("docs/decisions")).filter((file) => /^[0-9]{4}-.*\.md$/.test(file))
  const titles = records.sort().map((file) => {
    const title = /^# (.+)$/m.exec(readFileSync(at(`docs/decisions/${file}`), "utf8"))?.[1]
    assert.match(title ?? "", new RegExp(`^${file.slice(0, 4)}: `), `${file} begins with its number`)
    return `- [${title}](${file})`
  })
  assert.strictEqual(new Set(records.map((file) => file.slice(0, 4))).size, records.length, "no number is taken twice")
  await expect(withTable("docs/decisions/README.md", titles.join("\n"))).toMatchFileSnapshot(
    at("docs/decisions/README.md")
  )
})
