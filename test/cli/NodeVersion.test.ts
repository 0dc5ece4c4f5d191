import { readFileSync } from "node:fs"
import { assert, it } from "@effect/vitest"
import { oldestNode, refusalOf } from "../../src/cli/NodeVersion.ts"

it("refuses what is older, and names both versions", () => {
  for (const version of ["18.20.4", "20.20.2", "22.18.9", "22.9.0"]) {
    assert.include(refusalOf(version) ?? "", oldestNode, version)
    assert.include(refusalOf(version) ?? "", version)
  }
})

it("accepts the oldest supported version and everything newer", () => {
  for (const version of ["22.19.0", "22.20.0", "23.0.0", "24.21.0", "100.0.0", "25.0.0-nightly"]) {
    assert.isUndefined(refusalOf(version), version)
  }
})

it("asks for what package.json asks for", () => {
  const { engines } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))
  assert.strictEqual(engines.node, `>=${oldestNode.replace(/\.0$/, "")}`)
})
