import { assert, describe, it } from "@effect/vitest"
import { hostName, runnerName } from "../../src/gateway/RunnerName.ts"
import type { VisitorHead } from "../../src/gateway/Visitor.ts"

const head = (headers: VisitorHead["headers"], target = "/"): VisitorHead => ({
  method: "GET",
  target,
  headers,
  httpVersion: "1.1",
  remoteAddress: "127.0.0.1",
  encrypted: false
})
const named = (host: string, domain = "localhost") => {
  const found = runnerName(head([["Host", host]]), domain)
  return found._tag === "Found" ? found.name : found._tag
}

describe("the runner's name", () => {
  it("is everything before the domain, whatever its case, port and final dot", () => {
    assert.strictEqual(named("web.localhost"), "web")
    assert.strictEqual(named("Web.LocalHost.:6420"), "web")
    assert.strictEqual(named("a.b.tunnel.example:80", "tunnel.example"), "a.b")
  })

  it("is none at the bare domain, at another, and at one that only ends alike", () => {
    for (const host of ["localhost", ".localhost", "web.example", "weblocalhost", "127.0.0.1:6420", "[::1]:80", ""]) {
      assert.strictEqual(named(host), "None", host)
    }
  })

  it("comes from the header on any host, and the header wins over the host", () => {
    const found = runnerName(
      head([
        ["Host", "other.localhost"],
        ["x-wayleave-name", " Web "]
      ]),
      "localhost"
    )
    assert.deepInclude(found, { _tag: "Found", name: "web", host: "other.localhost" })
  })

  it("is refused where two hosts or two names leave it open", () => {
    for (const name of ["host", "X-Wayleave-Name"]) {
      const found = runnerName(
        head([
          ["Host", "web.localhost"],
          ["x-wayleave-name", "web"],
          [name, "other.localhost"]
        ]),
        "localhost"
      )
      assert.strictEqual(found._tag, "Ambiguous")
    }
  })

  it("is none where it could not be one", () => {
    for (const name of ["", "a b", "a/b", "a\u0000b", "x".repeat(254)]) {
      const found = runnerName(head([["x-wayleave-name", name]]), "localhost")
      assert.strictEqual(found._tag, "None", JSON.stringify(name))
    }
  })

  it("comes from an absolute target, which goes on in origin-form with its own host", () => {
    const found = runnerName(head([["Host", "evil.localhost"]], "http://user@web.localhost:80/p?q"), "localhost")
    assert.deepInclude(found, { _tag: "Found", name: "web", host: "web.localhost:80", target: "/p?q" })
    assert.deepInclude(runnerName(head([], "http://web.localhost?q"), "localhost"), { target: "/?q" })
    const options = { ...head([["Host", "web.localhost"]], "*"), method: "OPTIONS" }
    assert.deepInclude(runnerName(options, "localhost"), { target: "*" })
  })

  it("is refused where the target has a form that no request may have", () => {
    for (const target of [
      "*",
      "web.localhost:80",
      "ftp://web.localhost/",
      "/a#b",
      "http://web.localhost/#b",
      "a",
      ""
    ]) {
      assert.strictEqual(runnerName(head([["Host", "web.localhost"]], target), "localhost")._tag, "Ambiguous", target)
    }
  })

  it("a host is read without its port, also in brackets", () => {
    assert.strictEqual(hostName("[::1]:80"), "[::1]")
    assert.strictEqual(hostName("A.b."), "a.b")
  })
})
