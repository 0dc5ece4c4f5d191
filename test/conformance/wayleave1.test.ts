/** `wayleave.1` to the byte: the vectors that `docs/protocol/wayleave-1.md` offers to whoever writes a runner elsewhere. */
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { closeCodes, ToHub, ToRunner, toHub, toRunner, type UpFrame } from "../../src/protocol/Wayleave1.ts"
import { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"

interface Vector {
  readonly to: "hub" | "runner"
  readonly name: string
  readonly hex: string
  readonly value: unknown
}

const file = new URL("./wayleave1.json", import.meta.url)
const vectors: ReadonlyArray<Vector> = JSON.parse(readFileSync(file, "utf8"))

/** Bytes stand as `{"hex": …}` in the file. */
const revive = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(revive)
  if (value === null || typeof value !== "object") return value
  if ("hex" in value) return new Uint8Array(Buffer.from(String(value.hex), "hex"))
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, revive(inner)]))
}
/** Views of the message become plain bytes, so that they compare. */
const plain = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return new Uint8Array(value)
  if (Array.isArray(value)) return value.map(plain)
  if (value === null || typeof value !== "object") return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]))
}

describe("the vectors of wayleave.1", () => {
  for (const { to, name, hex, value } of vectors) {
    it(`to ${to}: ${name}, both ways`, () => {
      const bytes = new Uint8Array(Buffer.from(hex, "hex"))
      const decoded = to === "hub" ? toHub.decode(bytes) : toRunner.decode(bytes)
      assert.deepStrictEqual(plain(decoded), revive(value))
      const encoded = to === "hub" ? toHub.encode(revive(value) as ToHub) : toRunner.encode(revive(value) as ToRunner)
      assert.strictEqual(Buffer.from(encoded).toString("hex"), hex)
    })
  }

  const tags = (schema: { readonly members: ReadonlyArray<{ readonly fields: { readonly _tag: unknown } }> }) =>
    schema.members.map(
      (member) => (member.fields._tag as { readonly schema: { readonly literal: string } }).schema.literal
    )
  const shown = (to: Vector["to"]) =>
    vectors
      .filter((vector) => vector.to === to)
      .map(({ value }) => value as { _tag: string; frames?: ReadonlyArray<UpFrame> })

  it("show every message and every frame", () => {
    for (const [to, message, frame] of [
      ["hub", ToHub, ResponseFrame],
      ["runner", ToRunner, RequestFrame]
    ] as const) {
      const messages = shown(to)
      assert.deepStrictEqual([...new Set(messages.map(({ _tag }) => _tag))].sort(), [...tags(message)].sort())
      const frames = messages.flatMap((one) => one.frames ?? []).map((one) => one.frame._tag as string)
      assert.deepStrictEqual([...new Set(frames)].sort(), [...tags(frame)].sort())
    }
  })
})

it("the protocol page lists the close codes as the code has them", () => {
  const page = readFileSync(new URL("../../docs/protocol/wayleave-1.md", import.meta.url), "utf8")
  const rows = Object.entries(closeCodes).map(
    ([name, { code, retry, means }]) => `| ${code} | ${name} | ${retry ? "yes" : "no"} | ${means} |`
  )
  assert.deepStrictEqual(page.match(/^\| \d{4} .*$/gm), rows)
})
