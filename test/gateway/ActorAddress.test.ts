import { assert, describe, it } from "@effect/vitest"
import * as RivetId from "../../src/actor/RivetId.ts"
import { actorAddress, withoutRouting } from "../../src/gateway/ActorAddress.ts"
import type { VisitorHead } from "../../src/gateway/Visitor.ts"
import type { HeaderList } from "../../src/tunnel/Frame.ts"

const id = RivetId.make(new Uint8Array(16).fill(7))

const head = (target: string, headers: HeaderList = []): VisitorHead => ({
  method: "GET",
  target,
  headers: [["Host", "localhost:6420"], ...headers],
  httpVersion: "1.1",
  remoteAddress: "127.0.0.1",
  encrypted: false
})

/** What is found, in one word: the actor and what it is asked for, the refusal, or `None`. */
const found = (target: string, headers: HeaderList = [], kind: "http" | "websocket" = "http") => {
  const address = actorAddress(head(target, headers), target, kind)
  switch (address._tag) {
    case "None":
      return "None"
    case "Refused":
      return `${address.refusal.code} ${address.refusal.rivet}`
    case "Actor":
      return address.actorId === id ? address.target : assert.fail(address.actorId)
    case "Query":
      return `${address.query.name} ${address.target}`
  }
}

describe("an actor by path", () => {
  for (const [asked, forwarded] of [
    [`/gateway/${id}`, "/"],
    [`/gateway/${id}/`, "/"],
    [`/gateway/${id}/x%20y?a=b+c`, "/x%20y?a=b+c"],
    [`/gateway/${id}?x=1`, "/?x=1"],
    [`/gateway/${id}?`, "/?"],
    [`/gateway/${id}/a/../b/./c;p=1?q#part`, "/a/../b/./c;p=1?q"],
    [`/gateway/${id}#part`, "/"],
    [`/gateway/${id}/x?y=/a//b`, "/x?y=/a//b"],
    [`/gateway/${id}@secret/x`, "/x"],
    [`/gateway/${id}@a@b/x`, "/x"],
    [`/gateway/${id}@%40%2F?x`, "/?x"],
    [`/gateway/%${id.charCodeAt(0).toString(16)}${id.slice(1)}/x`, "/x"],
    [`/gateway/${id}/gateway/${id}/x`, `/gateway/${id}/x`],
    [`/gateway/${id}/caf\u00c3\u00a9`, "/caf\u00c3\u00a9"]
  ]) {
    it(`${(asked as string).replaceAll(id, "ID")} goes on as ${(forwarded as string).replaceAll(id, "ID")}`, () =>
      assert.strictEqual(found(asked as string), forwarded))
  }

  for (const target of [
    "/gateway",
    "/gateway/",
    "/gatewayx/a",
    "/Gateway/a",
    `/x/gateway/${id}`,
    `/gateway//${id}/x`,
    `/gateway/${id}//x`,
    `/gateway/@token/x`,
    `/gateway/${id}@/x`,
    "/gateway/%ff%fe/x",
    `/gateway/${id}@%ff/x`
  ]) {
    it(`${target.replaceAll(id, "ID")} is none of ours`, () => assert.strictEqual(found(target), "None"))
  }

  for (const target of [
    "/gateway/xyz/a",
    `/gateway/${id.toUpperCase()}/a`,
    `/gateway/${id}%40x/a`,
    `/gateway/${id}0`,
    "/gateway/%zz"
  ]) {
    it(`${target.replaceAll(id, "ID")} names no actor that could be`, () =>
      assert.strictEqual(found(target), "actor_not_found actor.not_found"))
  }

  it("a token in it is not for a log", () => {
    const address = actorAddress(head("/"), `/gateway/${id}@secret/x?y`, "http")
    assert.deepInclude(address, { _tag: "Actor", shown: `/gateway/${id}@…/x?y` })
    const refused = actorAddress(head("/"), "/gateway/xyz@secret/x", "http")
    assert.deepInclude(refused, { _tag: "Refused", shown: "/gateway/xyz@…/x" })
  })

  it("beats any header and any subprotocol", () => {
    const other = RivetId.make(new Uint8Array(16).fill(8))
    const headers: HeaderList = [
      ["x-rivet-target", "actor"],
      ["x-rivet-actor", other],
      ["sec-websocket-protocol", `rivet, rivet_target.actor, rivet_actor.${other}`]
    ]
    assert.strictEqual(found(`/gateway/${id}/x`, headers), "/x")
    assert.strictEqual(found(`/gateway/${id}/x`, headers, "websocket"), "/x")
  })
})

describe("an actor by query", () => {
  for (const [asked, forwarded] of [
    ["/gateway/room?rvt-namespace=default&rvt-method=get", "room /"],
    ["/gateway/room/x%20y?a=b+c&rvt-namespace=default&&rvt-method=get&&d", "room /x%20y?a=b+c&d"],
    ["/gateway/room/?rvt-method=get&rvt-namespace=default#f", "room /"],
    ["/gateway/ro%20om/?RVT-x=1&rvt-method=get&rvt-namespace=default", "ro om /?RVT-x=1"],
    ["/gateway/room@t?rvt-method=get&rvt-namespace=default", "bad_request guard.query_path_token_syntax"],
    ["/gateway?rvt-method=get&rvt-namespace=default", "bad_request guard.query_empty_actor_name"],
    ["/gateway/?rvt-method=get&rvt-namespace=default", "bad_request guard.query_empty_actor_name"],
    ["/gateway/room//x?rvt-method=get&rvt-namespace=default", "None"],
    ["/gateway/%ff?rvt-method=get&rvt-namespace=default", "bad_request guard.query_invalid_percent_encoding"]
  ]) {
    it(`${asked} is ${forwarded}`, () => assert.strictEqual(found(asked as string), forwarded))
  }

  it("no parameter of it is for a log", () => {
    const target = "/gateway/room/x?a&rvt-token=secret&rvt-method=get&rvt-namespace=default"
    assert.deepInclude(actorAddress(head("/"), target, "http"), { _tag: "Query", shown: "/gateway/room/x?a" })
  })
})

describe("an actor by header", () => {
  const actor: HeaderList = [
    ["X-Rivet-Target", "actor"],
    ["X-Rivet-Actor", id]
  ]

  for (const [target, forwarded] of [
    ["/request", "/request"],
    ["/request/", "/request/"],
    ["/request/a%20b?c", "/request/a%20b?c"],
    ["/request?c=/request#d", "/request?c=/request"],
    ["/requests", "unknown_host guard.no_route"],
    ["/", "unknown_host guard.no_route"],
    ["/x/request", "unknown_host guard.no_route"]
  ]) {
    it(`${target} is ${forwarded}`, () => assert.strictEqual(found(target as string, actor), forwarded))
  }

  for (const [what, headers, expected] of [
    ["no target", [["x-rivet-actor", id]], "None"],
    ["the management API as target", [["x-rivet-target", "api-public"]], "None"],
    ["a runner's place as target", [["x-rivet-target", "runner"]], "None"],
    ["an unknown target", [["x-rivet-target", "Actor"]], "unknown_host guard.no_route"],
    ["no actor", [["x-rivet-target", "actor"]], "bad_request guard.missing_header"],
    [
      "an actor that could not be",
      [...actor.slice(0, 1), ["x-rivet-actor", "xyz"]],
      "bad_request guard.invalid_header"
    ],
    [
      "a word for skipping that is none",
      [...actor, ["x-rivet-skip-ready-wait", "yes"]],
      "bad_request guard.invalid_header"
    ],
    ["a word for skipping", [...actor, ["x-rivet-skip-ready-wait", "1"]], "/request"],
    ["a token", [...actor, ["x-rivet-token", "t"]], "/request"]
  ] as ReadonlyArray<readonly [string, HeaderList, string]>) {
    it(`with ${what} is ${expected}`, () => assert.strictEqual(found("/request", headers), expected))
  }
})

it("says in each form whether it need not be waited for", () => {
  const skips = (target: string, headers: HeaderList = [], kind: "http" | "websocket" = "http") => {
    const address = actorAddress(head(target, headers), target, kind)
    if (address._tag === "Actor") return address.skipReadyWait
    return address._tag === "Query" ? address.query.skipReadyWait : address._tag
  }
  const header = (word: string): HeaderList => [
    ["x-rivet-target", "actor"],
    ["x-rivet-actor", id],
    ["x-rivet-skip-ready-wait", word]
  ]
  const query = "/gateway/room?rvt-namespace=default&rvt-method=get"
  for (const word of ["true", "1"]) {
    assert.isTrue(skips("/request", header(word)))
    assert.isTrue(skips(`${query}&rvt-skip-ready-wait=${word}`))
  }
  for (const word of ["false", "0"]) {
    assert.isFalse(skips("/request", header(word)))
    assert.isFalse(skips(`${query}&rvt-skip-ready-wait=${word}`))
  }
  assert.isFalse(skips(query))
  assert.isFalse(skips(`/gateway/${id}`, header("1")))
  const offered = (more: string): HeaderList => [
    ["sec-websocket-protocol", `rivet, rivet_target.actor, rivet_actor.${id}${more}`]
  ]
  assert.isTrue(skips("/", offered(", rivet_skip_ready_wait"), "websocket"))
  assert.isFalse(skips("/", offered(""), "websocket"))
})

describe("an actor by subprotocol", () => {
  for (const [offered, expected] of [
    [`rivet, rivet_target.actor, rivet_actor.${id}, rivet_token.t, rivet_skip_ready_wait`, "/any?x"],
    [`rivet_actor.${id},rivet_target.actor`, "/any?x"],
    [`rivet, rivet_target.actor, rivet_actor.%${id.charCodeAt(0).toString(16)}${id.slice(1)}`, "/any?x"],
    ["rivet, rivet_target.actor", "bad_request guard.missing_header"],
    ["rivet, rivet_target.actor, rivet_actor.xyz", "bad_request guard.invalid_header"],
    ["rivet, rivet_target.actor, rivet_actor.%ff", "bad_request guard.invalid_header"],
    ["rivet, rivet_target.other", "unknown_host guard.no_route"],
    ["rivet, rivet_target.runner", "None"],
    [`rivet, rivet_actor.${id}`, "None"],
    ["chat", "None"]
  ]) {
    it(`${(offered as string).replaceAll(id, "ID")} is ${expected}`, () => {
      const headers: HeaderList = [
        ["x-rivet-target", "actor"],
        ["Sec-WebSocket-Protocol", offered as string]
      ]
      assert.strictEqual(found("/any?x#f", headers, "websocket"), expected)
    })
  }
})

describe("what reaches an actor", () => {
  it("shows nothing of where it was sent and by which token, and everything else", () => {
    const headers: HeaderList = [
      ["X-Rivet-Token", "t"],
      ["x-rivet-target", "actor"],
      ["x-rivet-actor", id],
      ["x-rivet-skip-ready-wait", "1"],
      ["x-rivet-encoding", "json"],
      [
        "Sec-WebSocket-Protocol",
        "rivet, rivet_target.actor,rivet_actor.x, rivet_token.t,rivet_skip_ready_wait , rivet_encoding.json"
      ],
      ["sec-websocket-protocol", "rivet_token.t"]
    ]
    assert.deepStrictEqual(withoutRouting(headers), [
      ["x-rivet-encoding", "json"],
      ["Sec-WebSocket-Protocol", "rivet, rivet_encoding.json"]
    ])
  })
})
