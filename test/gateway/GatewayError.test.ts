import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { errorAnswer, prefersHtml } from "../../src/gateway/ErrorPage.ts"
import { entryOf, errors, fromAbortCode, type GatewayErrorCode, neverSeen } from "../../src/gateway/GatewayError.ts"
import { sendableCloseCode } from "../../src/socket/MessageSocket.ts"
import { AbortCode } from "../../src/tunnel/Frame.ts"

const page = readFileSync(fileURLToPath(new URL("../../docs/errors.md", import.meta.url)), "utf8")
const cellsOf = (line: string) =>
  line
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim())
const tableAfter = (head: string) => {
  const lines = page.slice(page.indexOf(head)).split("\n")
  return lines.slice(2, lines.indexOf("")).map(cellsOf)
}
const codes = Object.keys(errors) as Array<GatewayErrorCode>
const aborts = AbortCode.literals

describe("docs/errors.md", () => {
  it("lists every code with the numbers of the source, a cause and a remedy", () => {
    const rows = tableAfter("| code | status")
    assert.deepStrictEqual(
      rows.map((cells) => cells.slice(0, 4)),
      codes.map((code) => {
        const { closeCode, retryAfterSeconds, status } = entryOf(code)
        return [`\`${code}\``, String(status), String(closeCode), String(retryAfterSeconds ?? "")]
      })
    )
    for (const cells of rows) assert.isTrue((cells[4]?.length ?? 0) > 10 && (cells[5]?.length ?? 0) > 5, cells[0])
  })

  it("says of every abort code what it becomes", () => {
    const written = tableAfter("| abort code").flatMap(([from, to]) =>
      (from ?? "").split(",").map((code) => [code.trim(), to])
    )
    const expected = aborts.map((code) => [`\`${code}\``, `\`${fromAbortCode(code)}\``])
    assert.deepStrictEqual(written.sort(), expected.sort())
  })
})

describe("an error", () => {
  it("is asked once more only where its code says that no runner saw the request", () => {
    assert.deepStrictEqual(aborts.filter(neverSeen), ["no_runner", "overloaded", "draining"])
  })

  it("has a close code that may be sent", () => {
    for (const code of codes) assert.strictEqual(sendableCloseCode(entryOf(code).closeCode), entryOf(code).closeCode)
  })

  const facts = { requestId: "1/2", name: "<b>", domain: "localhost", accept: "" }

  it("is JSON for programs, with code, message and request id", () => {
    const answer = errorAnswer("no_runner", facts)
    const body = JSON.parse(Buffer.from(answer.body).toString()) as Record<string, string>
    assert.deepStrictEqual(body, { code: "no_runner", message: errors.no_runner.message, requestId: "1/2" })
    assert.deepInclude(answer.headers, ["content-length", String(answer.body.length)])
    assert.deepInclude(answer.headers, ["retry-after", "2"])
  })

  it("is a page for browsers, and nothing of the visitor's gets into it as markup", () => {
    for (const code of codes) {
      const answer = errorAnswer(code, { ...facts, accept: "text/html" })
      const html = Buffer.from(answer.body).toString()
      assert.include(html, errors[code].title)
      assert.include(html, code)
      assert.notInclude(html, "<b>&lt;b&gt;")
      assert.notMatch(html, /<b>(?!Wayleave)/)
    }
  })

  it("is a page only for who names HTML and does not like JSON better", () => {
    for (const accept of [
      "text/html",
      "text/html;q=0.5",
      "application/xhtml+xml, TEXT/HTML",
      "text/html,application/json"
    ]) {
      assert.isTrue(prefersHtml(accept), accept)
    }
    for (const accept of [
      "",
      "*/*",
      "text/*",
      "text/html;q=0",
      "application/json,text/html;q=0.9",
      "application/json"
    ]) {
      assert.isFalse(prefersHtml(accept), accept)
    }
  })
})
