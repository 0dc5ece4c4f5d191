import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { codecOf } from "../protocol/versions.ts"
import { fromNotation, type VectorFile } from "./Notation.ts"

const ours = fileURLToPath(new URL("../vectors", import.meta.url))
const folder = process.env.WAYLEAVE_VECTORS ?? ours
// A missing folder throws here, and so fails the suite.
const files = readdirSync(folder).filter((file) => file.endsWith(".json"))
const read = (file: string) => JSON.parse(readFileSync(join(folder, file), "utf8")) as VectorFile
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

describe("golden vectors", () => {
  it("there are some", () => assert.isAbove(files.length, 0, `no vector file in ${folder}`))

  if (folder === ours) {
    it("each of the seven versions has its own", () =>
      assert.deepStrictEqual(files.map((file) => read(file).protocolVersion).sort(), [1, 2, 3, 4, 5, 6, 7]))
  }

  it.each(files)("every vector of %s decodes to its value and encodes to its bytes", (file) => {
    const { protocolVersion, vectors } = read(file)
    assert.isAbove(vectors.length, 0, `${file} holds no vectors`)
    vectors.forEach(({ type, value, hex: golden }, i) => {
      const codec = codecOf(protocolVersion, type)
      const expected = fromNotation(value)
      const where = `${file}, vector ${i}, ${type}`
      assert.strictEqual(hex(codec.encode(expected)), golden, where)
      assert.deepStrictEqual(codec.decode(new Uint8Array(Buffer.from(golden, "hex"))), expected, where)
    })
  })
})
