import { assert, describe, it } from "@effect/vitest"
import { topLevels } from "./versions.ts"

describe("Rivet's types", () => {
  for (const { version, type, schema, codec } of topLevels)
    it.prop(
      `${type} of version ${version} comes back as it went, and so do its bytes`,
      { value: schema },
      ({ value }) => {
        const bytes = new Uint8Array(codec.encode(value))
        const decoded = codec.decode(bytes)
        assert.deepStrictEqual(decoded, value)
        assert.strictEqual(Buffer.compare(codec.encode(decoded), bytes), 0)
      },
      { arbitrary: { runs: 100 } }
    )

  it("each version has the types its neighbours have", () => {
    const types = (version: number) =>
      topLevels
        .filter((top) => top.version === version)
        .map((top) => top.type)
        .sort()
    assert.deepStrictEqual(types(2), types(1))
    assert.deepStrictEqual(types(3), [...types(2), "ToRunner"].sort())
    assert.deepStrictEqual(types(4), ["ActorCommandKeyData", ...types(3)].sort())
    for (const version of [5, 6, 7]) assert.deepStrictEqual(types(version), types(4))
  })
})
