import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"
import { type Bug, bugs, planted } from "./Bugs.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

for (const bug of bugs) {
  it(`can still be planted: ${bug.name}`, () => {
    assert.strictEqual(planted(root, bug).size, new Set(bug.edits.map(({ where }) => where)).size)
  })
}

it("a bug whose place is gone, or is there twice, is told of", () => {
  const at = (find: string): Bug => ({ name: "nowhere", edits: [{ where: "src/route/RouteTable.ts", find, put: "" }] })
  assert.throws(() => planted(root, at("no such text")), "occurs 0 times")
  assert.throws(() => planted(root, at("return")), /occurs \d\d+ times/)
})
