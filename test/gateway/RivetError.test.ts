import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, expect, it } from "@effect/vitest"
import { ActorError } from "../../src/actor/ActorControl.ts"
import { errors, type GatewayErrorCode } from "../../src/gateway/GatewayError.ts"
import { fromActorError, fromGatewayError, type RivetErrorCode, rivetErrors } from "../../src/gateway/RivetError.ts"

const path = fileURLToPath(new URL("../../docs/errors.md", import.meta.url))
const codes = Object.keys(errors) as Array<GatewayErrorCode>
const rivetCodes = Object.keys(rivetErrors) as Array<RivetErrorCode>

const shown = (code: RivetErrorCode) => `\`${code}\` ${rivetErrors[code].status}`

describe("docs/errors.md", () => {
  it("says what every code is called in Rivet's forms, and which stand for themselves", async () => {
    const both = codes.map((code) => [fromGatewayError(code, "http"), fromGatewayError(code, "websocket")] as const)
    const body = codes.map((code, i) => {
      const [http, socket] = both[i] as (typeof both)[number]
      return `| \`${code}\` | ${shown(http)} | ${http === socket ? "the same" : `\`${socket}\``} |`
    })
    const rows = ["| code above | for a request | for a WebSocket |", "| --- | --- | --- |", ...body]
    const reached = new Set(both.flat())
    const alone = rivetCodes
      .filter((code) => !reached.has(code))
      .map((code) => `- ${shown(code)}: ${rivetErrors[code].message}`)
    const page = readFileSync(path, "utf8")
      .replace(
        /(<!-- rivet -->\n)[\s\S]*?(<!-- \/rivet -->)/,
        (_, open, close) => `${open}${rows.join("\n")}\n${close}`
      )
      .replace(/(<!-- rivet-only -->\n)[\s\S]*?(<!-- \/rivet-only -->)/, (_, open, close) => {
        return `${open}${alone.join("\n")}\n${close}`
      })
    await expect(page).toMatchFileSnapshot(path)
  })
})

describe("an error in Rivet's words", () => {
  it("keeps what a client may conclude: who is at fault, and whether it may ask again", () => {
    for (const code of codes) {
      const { status } = rivetErrors[fromGatewayError(code, "http")]
      const ours = errors[code].status
      assert.strictEqual(status >= 500, ours >= 500, code)
      // 503 says that nothing was done; what may have run must not be told so.
      if (ours === 502) assert.strictEqual(status, 502, code)
      if (ours === 504 || ours === 413 || ours === 429) assert.strictEqual(status, ours, code)
    }
  })

  it("has a code of its own for every reason why an actor cannot be had", () => {
    for (const reason of ActorError.fields.reason.literals) {
      const refusal = fromActorError(new ActorError({ reason, message: "" }))
      assert.strictEqual(refusal.rivet, reason)
      assert.strictEqual(rivetErrors[reason].status >= 500, errors[refusal.code].status >= 500, reason)
    }
  })

  it("fits a close reason with a ray id, however long its name", () => {
    for (const code of rivetCodes) assert.isAtMost(code.length + 31, 123)
  })
})
