import { assert, describe, it } from "@effect/vitest"
import { judgeHead, judgeTrailers } from "../../src/gateway/ResponseHead.ts"
import type { HeaderList } from "../../src/tunnel/Frame.ts"

const judged = (headers: HeaderList, options: { method?: string; status?: number; whole?: number } = {}) =>
  judgeHead(options.method ?? "GET", options.status ?? 200, headers, options.whole)

describe("a response head", () => {
  it("is bad outside of 200 to 599", () => {
    for (const status of [0, 99, 100, 199, 600, 65_535]) assert.strictEqual(judged([], { status })._tag, "Bad")
    for (const status of [200, 404, 599]) assert.strictEqual(judged([], { status })._tag, "Good")
  })

  it("is bad with a name or value that could end a line or start another", () => {
    for (const pair of [
      ["a b", "1"],
      ["", "1"],
      ["a:", "1"],
      ["a", "x\ny"],
      ["a", "x\ry"],
      ["a", "\0"],
      ["a", "\u0100"],
      ["a\u00e9", "1"]
    ] as const) {
      assert.strictEqual(judged([pair])._tag, "Bad", JSON.stringify(pair))
    }
    assert.strictEqual(judged([["a", "\t caf\u00e9"]])._tag, "Good")
  })

  it("has one length, or none, or is bad", () => {
    for (const value of ["-1", "+1", "1.5", "0x1", "", " ", "1 2", "9".repeat(16), "1,2"]) {
      assert.strictEqual(judged([["Content-Length", value]])._tag, "Bad", value)
    }
    assert.deepInclude(judged([["Content-Length", "5"]]), { bodyBytes: 5, headers: [["Content-Length", "5"]] })
    for (const repeated of [
      [["Content-Length", "5, 5"]],
      [
        ["Content-Length", "5"],
        ["content-length", "5"]
      ]
    ]) {
      assert.deepInclude(judged(repeated as unknown as HeaderList), { headers: [["content-length", "5"]] })
    }
  })

  it("gets its length where the whole body came with it, and only there", () => {
    assert.deepInclude(judged([], { whole: 3 }), { headers: [["content-length", "3"]], bodyBytes: 3 })
    assert.deepInclude(judged([]), { headers: [], bodyBytes: undefined })
    assert.deepInclude(judged([], { whole: 0, status: 204 }), { headers: [], hasBody: false })
    assert.deepInclude(judged([], { whole: 0, method: "HEAD" }), { headers: [], hasBody: false })
  })

  it("loses transfer-encoding: how bytes are framed is for each hop to say", () => {
    assert.deepInclude(judged([["Transfer-Encoding", "chunked, gzip"]]), { headers: [] })
  })

  it("keeps the length of a body that HEAD and 304 do not send, and drops it from 204", () => {
    const length: HeaderList = [["content-length", "7"]]
    assert.deepInclude(judged(length, { method: "HEAD" }), { headers: length, hasBody: false })
    assert.deepInclude(judged(length, { status: 304 }), { headers: length, hasBody: false })
    assert.deepInclude(judged(length, { status: 204 }), { headers: [], hasBody: false })
  })
})

describe("trailers", () => {
  it("lose what frames, routes or authenticates", () => {
    assert.deepStrictEqual(
      judgeTrailers([
        ["X-Md", "1"],
        ["Content-Length", "1"],
        ["Transfer-Encoding", "chunked"],
        ["Host", "x"],
        ["Set-Cookie", "a"],
        ["grpc-status", "0"]
      ]),
      [
        ["X-Md", "1"],
        ["grpc-status", "0"]
      ]
    )
  })

  it("are none where one of them is not valid", () => {
    assert.deepStrictEqual(
      judgeTrailers([
        ["a", "1"],
        ["b", "x\r\ny"]
      ]),
      []
    )
  })
})
