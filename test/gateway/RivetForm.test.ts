import { assert, describe, it } from "@effect/vitest"
import * as RivetId from "../../src/actor/RivetId.ts"
import { RivetForm } from "../../src/gateway/RivetForm.ts"
import type { HeaderList } from "../../src/tunnel/Frame.ts"

const ray = RivetId.make(new Uint8Array(16))

const form = (headers: HeaderList = [], kind: "http" | "websocket" = "http", method = "GET") =>
  new RivetForm(ray, kind, {
    method,
    target: "/",
    headers,
    httpVersion: "1.1",
    remoteAddress: "127.0.0.1",
    encrypted: false
  })
const origin: HeaderList = [["Origin", "https://a.example"]]

describe("an answer in Rivet's form", () => {
  it("has a ray id of its own, whatever the app says", () => {
    const headers = form().headers([
      ["X-Rivet-Ray-Id", "forged"],
      ["a", "b"]
    ])
    assert.deepStrictEqual(
      headers.filter(([name]) => /ray/i.test(name)),
      [["x-rivet-ray-id", ray]]
    )
    assert.deepInclude(headers, ["a", "b"])
  })

  it("may be read by a script of any origin, and says that it differs by it", () => {
    assert.deepStrictEqual(form(origin).headers([["Vary", "accept-encoding"]]), [
      ["Vary", "accept-encoding, Origin"],
      ["x-rivet-ray-id", ray],
      ["access-control-allow-origin", "https://a.example"],
      ["access-control-expose-headers", "*"],
      ["access-control-allow-credentials", "true"]
    ])
    assert.deepInclude(form(origin).headers([]), ["vary", "Origin"])
    for (const vary of ["origin", "*", "a,Origin , b"]) {
      assert.deepInclude(form(origin).headers([["vary", vary]]), ["vary", vary])
    }
  })

  it("never allows everybody with credentials", () => {
    assert.deepStrictEqual(form().headers([]), [
      ["x-rivet-ray-id", ray],
      ["access-control-allow-origin", "*"],
      ["access-control-expose-headers", "*"]
    ])
  })

  it("leaves an app's own word on that as it is", () => {
    const own: HeaderList = [["Access-Control-Allow-Origin", "https://b.example"]]
    assert.deepStrictEqual(form(origin).headers(own), [...own, ["x-rivet-ray-id", ray]])
  })

  it("of a handshake has nothing but the ray id", () => {
    assert.deepStrictEqual(form(origin, "websocket").headers([]), [["x-rivet-ray-id", ray]])
  })
})

describe("a preflight", () => {
  const ask: HeaderList = [...origin, ["Access-Control-Request-Method", "PUT"]]

  it("is what a browser asks before a request, and no other OPTIONS", () => {
    assert.isTrue(form(ask, "http", "OPTIONS").isPreflight)
    assert.isFalse(form(ask, "http", "GET").isPreflight)
    assert.isFalse(form(origin, "http", "OPTIONS").isPreflight)
    assert.isFalse(form(ask.slice(1), "http", "OPTIONS").isPreflight)
  })

  it("is allowed everything, and told how long that is so", () => {
    const answer = form([...ask, ["Access-Control-Request-Headers", "x-a, x-b"]], "http", "OPTIONS").preflight()
    assert.deepStrictEqual([answer.status, answer.body.length], [204, 0])
    for (const pair of [
      ["access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS, PATCH"],
      ["access-control-allow-headers", "x-a, x-b"],
      ["access-control-max-age", "86400"],
      ["access-control-allow-origin", "https://a.example"],
      ["x-rivet-ray-id", ray]
    ] as const) {
      assert.deepInclude(answer.headers, pair)
    }
    assert.deepInclude(form(ask, "http", "OPTIONS").preflight().headers, ["access-control-allow-headers", "*"])
  })
})

describe("an error in Rivet's form", () => {
  it("is JSON with group, code and message, also for a browser, and metadata where there is any", () => {
    const answer = form([["Accept", "text/html"]]).errorAnswer({ code: "actor_not_ready" })
    assert.strictEqual(answer.status, 503)
    assert.deepInclude(answer.headers, ["content-type", "application/json"])
    assert.deepInclude(answer.headers, ["content-length", String(answer.body.length)])
    assert.deepInclude(answer.headers, ["retry-after", "2"])
    assert.deepInclude(answer.headers, ["x-wayleave-error", "actor_not_ready"])
    assert.deepInclude(answer.headers, ["x-rivet-ray-id", ray])
    assert.deepStrictEqual(JSON.parse(Buffer.from(answer.body).toString()), {
      group: "guard",
      code: "actor_ready_timeout",
      message: "The actor did not become ready in time."
    })
    const missing = {
      code: "bad_request",
      rivet: "guard.missing_header",
      metadata: { header: "x-rivet-actor" }
    } as const
    assert.deepInclude(JSON.parse(Buffer.from(form().errorAnswer(missing).body).toString()), {
      code: "missing_header",
      metadata: { header: "x-rivet-actor" }
    })
  })

  it("closes a WebSocket with 1011, group, code and ray id", () => {
    const close = form([], "websocket").close({ code: "response_start_timeout" })
    assert.deepStrictEqual(close, { code: 1011, reason: `guard.websocket_open_timeout#${ray}` })
  })
})

describe("the subprotocol", () => {
  for (const [offered, chosen, expected] of [
    ["rivet, rivet_target.actor", "", "rivet"],
    ["chat, rivet", "chat", "rivet"],
    ["chat, superchat", "superchat", "superchat"],
    ["chat", "other", ""],
    ["rivet_token.secret", "", ""],
    ["", "chat", ""]
  ]) {
    it(`of an offer of "${offered}" to an app that chose "${chosen}" is "${expected}"`, () => {
      const headers: HeaderList = offered === "" ? [] : [["sec-websocket-protocol", offered as string]]
      assert.strictEqual(form(headers, "websocket").protocol(chosen as string), expected)
    })
  }
})
