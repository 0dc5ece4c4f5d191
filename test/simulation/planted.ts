/**
 * `npm run simulate:planted`: plants each bug of `Bugs.ts` in a copy of its own and has the simulation look for it, in at most 2,000 seeds from the
 * first. Prints which seed found it, and by what; ends with status 1 where one was not found. With words, only the bugs whose names have them.
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type Bug, bugs, planted } from "./Bugs.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const seedsMax = 2_000

/** The first seed that finds the bug and what it says; undefined where none does. */
const hunt = (bug: Bug): { readonly seed: number; readonly violation: string } | undefined => {
  const copy = mkdtempSync(join(tmpdir(), "wayleave-planted-"))
  try {
    for (const part of ["src", "test/simulation", "test/fuzz", "package.json"]) {
      cpSync(join(root, part), join(copy, part), { recursive: true })
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"))
    for (const [file, text] of planted(copy, bug)) writeFileSync(file, text)
    const { stderr, stdout } = spawnSync(
      process.execPath,
      [join(copy, "test/simulation/main.ts"), "--seeds", String(seedsMax), "--first"],
      { encoding: "utf8", maxBuffer: 2 ** 26 }
    )
    const found = /^seed (\d+) (.*)/m.exec(stdout)
    if (found !== null) return { seed: Number(found[1]), violation: found[2] as string }
    // A copy that does not even run has found nothing.
    if (!/^seeds \d+, steps \d+, violations 0$/m.test(stdout)) throw new Error(`${bug.name}: ${stderr}`)
    return undefined
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

const wanted = process.argv.slice(2)
let missed = 0
for (const bug of bugs) {
  if (wanted.length > 0 && !wanted.some((words) => bug.name.includes(words))) continue
  const found = hunt(bug)
  if (found === undefined) missed++
  const result = found === undefined ? `not found in ${seedsMax} seeds` : `seed ${found.seed}: ${found.violation}`
  process.stdout.write(`${bug.name.padEnd(72)}${result.slice(0, 160)}\n`)
}
process.stdout.write(`bugs missed ${missed}\n`)
process.exitCode = missed === 0 ? 0 : 1
