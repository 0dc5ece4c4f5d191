import { assert, describe, it } from "@effect/vitest"
import { acceptHeaders, endToEnd, forwardedHeaders } from "../../src/gateway/ForwardedHeaders.ts"
import { trustProxies, unreadableProxies } from "../../src/gateway/TrustedProxies.ts"
import type { VisitorHead } from "../../src/gateway/Visitor.ts"

const head = (headers: VisitorHead["headers"], remoteAddress = "192.0.2.7"): VisitorHead => ({
  method: "GET",
  target: "/",
  headers,
  httpVersion: "1.1",
  remoteAddress,
  encrypted: true
})
const own = new Set(["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"])
const kept = (headers: VisitorHead["headers"], trusted = false) =>
  forwardedHeaders(head(headers), "web.localhost", trusted).filter(([name]) => !own.has(name))
const origin = (headers: VisitorHead["headers"], trusted: boolean, address?: string) =>
  Object.fromEntries(
    forwardedHeaders(head(headers, address), "web.localhost", trusted).filter(([name]) => own.has(name))
  )

describe("headers on the way to the app", () => {
  it("keep order, spelling and duplicates", () => {
    const headers: VisitorHead["headers"] = [
      ["Host", "web.localhost"],
      ["X-B", "1"],
      ["cookie", "a"],
      ["x-b", "2"]
    ]
    assert.deepStrictEqual(kept(headers), headers)
  })

  it("lose what was for this hop only, and what Connection names", () => {
    assert.deepStrictEqual(
      kept([
        ["Connection", "close, X-Private"],
        ["Keep-Alive", "1"],
        ["Proxy-Connection", "x"],
        ["Proxy-Authorization", "secret"],
        ["Transfer-Encoding", "chunked"],
        ["Upgrade", "h2c"],
        ["Expect", "100-continue"],
        ["x-private", "1"],
        ["X-Public", "2"]
      ]),
      [["X-Public", "2"]]
    )
  })

  it("keep host and length even where Connection names them", () => {
    assert.deepStrictEqual(
      kept([
        ["Connection", "host, content-length"],
        ["Host", "web.localhost"],
        ["Content-Length", "3"]
      ]),
      [
        ["Host", "web.localhost"],
        ["Content-Length", "3"]
      ]
    )
  })

  it("keep of TE only that trailers are welcome", () => {
    assert.deepStrictEqual(kept([["TE", "gzip, trailers"]]), [["te", "trailers"]])
    assert.deepStrictEqual(kept([["TE", "gzip"]]), [])
  })

  it("say the host that was asked for, where the target named another", () => {
    assert.deepStrictEqual(kept([["Host", "evil"]]), [["Host", "web.localhost"]])
  })
})

describe("where a request comes from", () => {
  const claims = [
    ["X-Forwarded-For", "10.1.1.1"],
    ["X-Forwarded-Host", "a.example"],
    ["X-Forwarded-Proto", "http"],
    ["Forwarded", "for=10.1.1.1"],
    ["X-Real-IP", "10.1.1.1"],
    ["X-Forwarded-Port", "1"]
  ] as const

  it("is told by us where nobody before us is trusted", () => {
    assert.deepStrictEqual(origin(claims, false), {
      "x-forwarded-for": "192.0.2.7",
      "x-forwarded-host": "web.localhost",
      "x-forwarded-proto": "https",
      forwarded: "for=192.0.2.7;host=web.localhost;proto=https"
    })
    assert.deepStrictEqual(kept(claims), [])
  })

  it("is told by a trusted proxy, and continued by us", () => {
    assert.deepStrictEqual(origin(claims, true), {
      "x-forwarded-for": "10.1.1.1, 192.0.2.7",
      "x-forwarded-host": "a.example",
      "x-forwarded-proto": "http",
      forwarded: "for=10.1.1.1, for=192.0.2.7;host=web.localhost;proto=https"
    })
    assert.strictEqual(kept(claims, true).length, 2)
  })

  it("writes IPv6 as Forwarded wants it, and IPv4 inside IPv6 as IPv4", () => {
    assert.include(origin([], false, "2001:db8::1").forwarded, 'for="[2001:db8::1]"')
    assert.strictEqual(origin([], false, "::ffff:192.0.2.9")["x-forwarded-for"], "192.0.2.9")
  })

  it("cannot be forged by stripping through Connection", () => {
    assert.strictEqual(origin([["Connection", "x-forwarded-for"]], false)["x-forwarded-for"], "192.0.2.7")
  })
})

describe("headers on the way back", () => {
  it("lose what was for the other hop only", () => {
    assert.deepStrictEqual(
      endToEnd([
        ["Transfer-Encoding", "chunked"],
        ["connection", "keep-alive"],
        ["Set-Cookie", "a"],
        ["Set-Cookie", "b"]
      ]),
      [
        ["Set-Cookie", "a"],
        ["Set-Cookie", "b"]
      ]
    )
  })

  it("of a WebSocket answer are split from the subprotocol, and the handshake's own dropped", () => {
    assert.deepStrictEqual(
      acceptHeaders([
        ["Sec-WebSocket-Protocol", " chat "],
        ["Sec-WebSocket-Accept", "x"],
        ["Sec-WebSocket-Extensions", "permessage-deflate"],
        ["X-A", "1"]
      ]),
      { headers: [["X-A", "1"]], protocol: "chat" }
    )
  })
})

describe("trusted proxies", () => {
  it("are addresses and blocks of either family", () => {
    const trusts = trustProxies(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"])
    for (const yes of ["10.255.0.1", "::ffff:10.0.0.1", "192.0.2.1", "2001:db8:ffff::1", "::1"]) {
      assert.isTrue(trusts(yes), yes)
    }
    for (const no of ["11.0.0.1", "192.0.2.2", "2001:db9::1", "::2", "", "10", "::ffff:11.0.0.1"]) {
      assert.isFalse(trusts(no), no)
    }
  })

  it("are nobody by default, and everybody only where that is written", () => {
    assert.isFalse(trustProxies([])("127.0.0.1"))
    assert.isTrue(trustProxies(["0.0.0.0/0"])("203.0.113.9"))
  })

  it("that cannot be read are named", () => {
    const bad = ["10.0.0.0/33", "10.0.0", "proxy", "1::2::3", "10.0.0.0/8/8", "", "256.0.0.1", "::/129"]
    assert.deepStrictEqual(unreadableProxies([...bad, "10.0.0.1", "::/0"]), bad)
  })
})
