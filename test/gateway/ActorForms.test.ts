import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { ActorControl } from "../../src/actor/ActorControl.ts"
import * as RivetId from "../../src/actor/RivetId.ts"
import { Gateway, type GatewayOptions } from "../../src/gateway/Gateway.ts"
import { MemoryUpgrade, MemoryVisitor, type VisitorOptions } from "../../src/testing/MemoryVisitor.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { actorHub, bytes, chunk, type Ends, fakeHub, gatewayAlone, head, settle } from "./FakeHub.ts"

const id = RivetId.make(new Uint8Array(16).fill(7))
const host = ["Host", "localhost:6420"] as const
const direct: VisitorOptions = { target: `/gateway/${id}/x?y`, headers: [host] }

const visit = Effect.fnUntraced(function* (options: VisitorOptions = direct) {
  const gateway = yield* Gateway
  const visitor = new MemoryVisitor(options)
  const fiber = yield* Effect.forkChild(gateway.request(visitor.exchange))
  return { visitor, fiber }
})

const answerTo = Effect.fnUntraced(function* (options: VisitorOptions) {
  const { visitor } = yield* visit(options)
  const answer = yield* visitor.received
  return { ...answer, text: visitor.text }
})

const upgrade = Effect.fnUntraced(function* (options: VisitorOptions) {
  const gateway = yield* Gateway
  const visitor = new MemoryUpgrade(options)
  yield* Effect.forkChild(gateway.upgrade(visitor.upgrade))
  return visitor
})

const accepted = Effect.fnUntraced(function* (visitor: MemoryUpgrade) {
  const answer = yield* visitor.answered
  return answer._tag === "Accepted" ? answer : assert.fail(`refused with ${answer.status}`)
})

const rayOf = (headers: ReadonlyArray<readonly [string, string]>) =>
  headers.find(([name]) => name === "x-rivet-ray-id")?.[1] ?? ""

const errorOf = (text: string) => {
  const { code, group } = JSON.parse(text) as { readonly group: string; readonly code: string }
  return `${group}.${code}`
}

describe("a request for an actor", () => {
  it.effect("goes to whoever controls actors, for that actor and for no name", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit({
        target: `/gateway/${id}@secret/x?y`,
        headers: [host, ["x-rivet-token", "t"], ["x-mine", "1"]]
      })
      const app = yield* hub.next
      const { actor, frame, name } = app.opening
      assert.deepStrictEqual([actor, name], [id, ""])
      if (frame._tag !== "RequestStart") return assert.fail(frame._tag)
      assert.strictEqual(frame.target, "/x?y")
      assert.deepStrictEqual(
        frame.headers.map(([header]) => header),
        ["Host", "x-mine", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"]
      )
      yield* app.reply(head(false, "hello"))
      const answer = yield* visitor.received
      assert.strictEqual(visitor.text, "hello")
      assert.isDefined(RivetId.parse(rayOf(answer.headers)))
      assert.deepInclude(answer.headers, ["access-control-allow-origin", "*"])
      yield* settle
      assert.deepInclude(ends.list[0], { name: id, target: `/gateway/${id}@…/x?y`, outcome: "ok" })
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })

  it.effect("is not one where the host names an app: that app may have such paths", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const headers = [
        ["Host", "web.localhost"],
        ["x-rivet-target", "actor"],
        ["x-rivet-actor", id]
      ] as const
      for (const target of [`/gateway/${id}/x`, "/request"]) {
        yield* visit({ target, headers })
        const { actor, frame, name } = (yield* hub.next).opening
        assert.deepStrictEqual([actor, name], ["", "web"])
        assert.isTrue(frame._tag === "RequestStart" && frame.target === target)
        assert.isTrue(frame._tag === "RequestStart" && frame.headers.some(([header]) => header === "x-rivet-actor"))
      }
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("waits for the actor as long as the hub says nothing against it, and no longer than it may", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit()
      const app = yield* hub.opened
      yield* app.publish(app.uplink({ _tag: "Credit", bytes: 0 }, { session: "", generation: 0 }))
      yield* settle
      yield* TestClock.adjust(limits.placementMs - 1)
      assert.strictEqual(visitor.answer.status, 0)
      yield* TestClock.adjust(1)
      const answer = yield* visitor.received
      assert.strictEqual(answer.status, 503)
      assert.strictEqual(errorOf(visitor.text), "guard.actor_ready_timeout")
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "deadline" })
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("has its whole time from when a runner has it, and is answered by that runner alone", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit()
      const app = yield* hub.opened
      yield* app.publish(app.uplink({ _tag: "Credit", bytes: 0 }, { session: "", generation: 0 }))
      yield* settle
      yield* TestClock.adjust(50_000)
      yield* app.greet(0)
      yield* settle
      yield* TestClock.adjust(limits.responseStartMs - 1)
      assert.strictEqual(visitor.answer.status, 0)
      const answer = app.uplink(head(false, "good"))
      yield* app.publish({ ...answer, session: "" }, { ...answer, session: "f".repeat(32) }, answer)
      yield* visitor.received
      assert.strictEqual(visitor.text, "good")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("takes nothing but credit and an abort in the hub's own name", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit()
      const app = yield* hub.opened
      yield* app.publish(app.uplink(head(false, "forged"), { session: "" }))
      yield* app.publish(
        app.uplink({ _tag: "ResponseAbort", code: "actor_not_found", message: "" }, { session: "", index: 0 })
      )
      assert.strictEqual((yield* visitor.received).status, 404)
      assert.strictEqual(errorOf(visitor.text), "actor.not_found")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("is asked of another hub only where none has seen it, also after the first said that it has it", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit()
      const first = yield* hub.opened
      yield* first.publish(first.uplink({ _tag: "Credit", bytes: 0 }, { session: "", generation: 0 }))
      yield* first.publish(first.uplink({ _tag: "ResponseAbort", code: "draining", message: "" }, { session: "" }))
      const second = yield* hub.next
      assert.notDeepEqual(second.opening.route, first.opening.route)
      yield* second.reply({ _tag: "ResponseAbort", code: "actor_stopped", message: "" })
      yield* visitor.received
      assert.strictEqual(errorOf(visitor.text), "guard.actor_stopped_while_waiting")
      yield* settle
      assert.lengthOf(yield* hub.told, 0)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("has a body of at most 20 MiB, and is refused beyond without asking anybody", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const declared = (size: number): VisitorOptions => ({
        ...direct,
        headers: [host, ["Content-Length", String(size)]]
      })
      const answer = yield* answerTo(declared(limits.actorBodyBytesMax + 1))
      assert.strictEqual(answer.status, 413)
      assert.strictEqual(errorOf(answer.text), "guard.invalid_request_body")
      yield* visit(declared(limits.actorBodyBytesMax))
      yield* hub.next
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("whose body grows beyond that is broken off", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit({ ...direct, method: "POST", hasBody: true })
      const app = yield* hub.opened
      yield* app.greet(limits.actorBodyBytesMax + 1)
      for (let i = 0; i < 20; i++) visitor.send(bytes(1024 * 1024))
      yield* settle
      assert.isTrue((yield* app.pending).every((frame) => frame._tag === "RequestChunk"))
      visitor.send(bytes(1))
      const answer = yield* visitor.received
      assert.strictEqual(answer.status, 413)
      yield* settle
      assert.deepStrictEqual((yield* app.pending).at(-1), { _tag: "RequestAbort", code: "cancelled" })
    }).pipe(Effect.provide(gatewayAlone()))
  )
})

describe("errors in Rivet's form", () => {
  const header = ["x-rivet-target", "actor"] as const
  for (const [what, request, status, code, options] of [
    ["an id that is none", { target: "/gateway/xyz/", headers: [host] }, 404, "actor.not_found", {}],
    ["nobody who controls actors", direct, 503, "guard.service_unavailable", {}],
    ["a header form elsewhere", { target: "/", headers: [host, header] }, 404, "guard.no_route", {}],
    ["no actor in the header form", { target: "/request", headers: [host, header] }, 400, "guard.missing_header", {}],
    [
      "a head that is too large",
      { target: `/gateway/${id}/${"x".repeat(limits.headBytesMax)}`, headers: [host] },
      431,
      "guard.headers_too_large",
      {}
    ],
    [
      "a query that nobody controls actors for",
      { target: "/gateway/room?rvt-namespace=default&rvt-method=get", headers: [host] },
      503,
      "guard.service_unavailable",
      {}
    ]
  ] as ReadonlyArray<readonly [string, VisitorOptions, number, string, GatewayOptions]>) {
    it.effect(`tell ${what} as ${code}`, () =>
      Effect.gen(function* () {
        const answer = yield* answerTo(request)
        assert.strictEqual(answer.status, status)
        assert.strictEqual(errorOf(answer.text), code)
        assert.strictEqual(rayOf(answer.headers).length, 30)
      }).pipe(Effect.provide(gatewayAlone(options)))
    )
  }

  it.effect("come for no request that is in none of the forms", () =>
    Effect.gen(function* () {
      for (const target of ["/gateway/", `/gateway//${id}`, "/", "/request"]) {
        const answer = yield* answerTo({ target, headers: [host] })
        assert.strictEqual(answer.status, 404)
        assert.strictEqual((JSON.parse(answer.text) as { code: string }).code, "unknown_host")
        assert.strictEqual(rayOf(answer.headers), "")
      }
      const fragment = yield* answerTo({ target: "/x#y", headers: [host] })
      assert.strictEqual(fragment.status, 400)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("break off what had begun, as everywhere", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(true), chunk("x"), { _tag: "ResponseAbort", code: "actor_stopped", message: "" })
      const answer = yield* visitor.received
      assert.deepStrictEqual([answer.status, answer.state], [200, "broken"])
    }).pipe(Effect.provide(gatewayAlone()))
  )
})

describe("a preflight for an actor", () => {
  it.effect("is answered without it, and every other OPTIONS is the app's", () =>
    Effect.gen(function* () {
      const origin = ["Origin", "https://a.example"] as const
      const asks = { ...direct, method: "OPTIONS" }
      const answer = yield* answerTo({ ...asks, headers: [host, origin, ["Access-Control-Request-Method", "PUT"]] })
      assert.strictEqual(answer.status, 204)
      assert.deepInclude(answer.headers, ["access-control-allow-origin", "https://a.example"])
      const hub = yield* actorHub()
      yield* visit({ ...asks, headers: [host, origin] })
      assert.deepInclude((yield* hub.next).opening.frame, { method: "OPTIONS" })
    }).pipe(Effect.provide(gatewayAlone()))
  )
})

describe("a query", () => {
  const target = "/gateway/room/x?a=1&rvt-namespace=default&rvt-method=get&rvt-key=k"
  const plane = (find: ActorControl["Service"]["find"]) =>
    Layer.succeed(ActorControl, { find } as ActorControl["Service"])
  const found = plane((name, key) =>
    name === "room" && key === "k" ? Effect.succeed({ actorId: id } as never) : Effect.never
  )

  it.effect("is asked of the control plane, and goes on to the actor it finds", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* actorHub()
      yield* visit({ target, headers: [host] })
      const app = yield* hub.next
      assert.strictEqual(app.opening.actor, id)
      assert.deepInclude(app.opening.frame, { target: "/x?a=1" })
      yield* app.reply(head(false, "ok"))
      yield* settle
      assert.deepInclude(ends.list[0], { name: "room", target: "/gateway/room/x?a=1", outcome: "ok" })
    }).pipe(Effect.provide(gatewayAlone({}, ends).pipe(Layer.provide(found))))
  })

  it.effect("whose visitor leaves meanwhile asks no actor", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* actorHub()
      const { visitor } = yield* visit({ target, headers: [host] })
      yield* settle
      visitor.leave()
      yield* TestClock.adjust(1_000)
      yield* settle
      assert.lengthOf(yield* hub.told, 0)
      const gateway = yield* Gateway
      assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [0, 0])
      assert.strictEqual(ends.list[0]?.outcome, "cancelled")
    }).pipe(
      Effect.provide(
        gatewayAlone({}, ends).pipe(
          Layer.provide(plane(() => Effect.delay(Effect.succeed({ actorId: id } as never), 1_000)))
        )
      )
    )
  })

  it.effect("works for a WebSocket too, and its refusal closes it", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      yield* upgrade({ target, headers: [host] })
      assert.strictEqual((yield* hub.next).opening.actor, id)
      const refused = yield* accepted(yield* upgrade({ target: `${target}&rvt-key=k`, headers: [host] }))
      const closed = yield* Effect.flip(refused.socket.pull)
      assert.match(closed.reason, /^guard\.query_duplicate_param#[0-9a-z]{30}$/)
    }).pipe(Effect.provide(gatewayAlone().pipe(Layer.provide(found))))
  )
})

describe("a WebSocket for an actor", () => {
  const offer = (...items: ReadonlyArray<string>): VisitorOptions => ({
    target: "/any?x",
    headers: [host, ["Sec-WebSocket-Protocol", items.join(", ")]]
  })
  const rivet = offer("rivet", "rivet_target.actor", `rivet_actor.${id}`, "rivet_token.y", "rivet_encoding.json")
  const accept = { _tag: "WebSocketOpen", headers: [], canHibernate: false } as const

  it.effect("is asked for by its subprotocols and opens with rivet, and the app sees no token", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const visitor = yield* upgrade(rivet)
      const app = yield* hub.next
      const { actor, frame } = app.opening
      assert.strictEqual(actor, id)
      if (frame._tag !== "WebSocketOpen") return assert.fail(frame._tag)
      assert.strictEqual(frame.target, "/any?x")
      assert.deepInclude(frame.headers, ["Sec-WebSocket-Protocol", "rivet, rivet_encoding.json"])
      yield* app.reply(accept)
      const answer = yield* accepted(visitor)
      assert.strictEqual(answer.socket.protocol, "rivet")
      assert.strictEqual(rayOf(answer.headers).length, 30)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("by path opens without a subprotocol where none was offered", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const visitor = yield* upgrade(direct)
      yield* (yield* hub.next).reply(accept)
      assert.strictEqual((yield* accepted(visitor)).socket.protocol, "")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("that fails is accepted with rivet, and closed with code and ray id", () =>
    Effect.gen(function* () {
      const visitor = yield* upgrade(rivet)
      const { headers, socket } = yield* accepted(visitor)
      assert.strictEqual(socket.protocol, "rivet")
      const closed = yield* Effect.flip(socket.pull)
      assert.strictEqual(closed.code, 1011)
      assert.strictEqual(closed.reason, `guard.service_unavailable#${rayOf(headers)}`)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("has its time to be accepted from when a runner has it", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const visitor = yield* upgrade(rivet)
      const app = yield* hub.opened
      yield* app.publish(app.uplink({ _tag: "Credit", bytes: 0 }, { session: "", generation: 0 }))
      yield* settle
      yield* TestClock.adjust(limits.placementMs - 1)
      yield* app.greet(1_000)
      yield* settle
      yield* TestClock.adjust(limits.webSocketOpenMs - 1)
      assert.lengthOf(yield* app.pending, 0)
      yield* TestClock.adjust(1)
      const { socket } = yield* accepted(visitor)
      assert.match((yield* Effect.flip(socket.pull)).reason, /^guard\.websocket_open_timeout#/)
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "deadline" })
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("closed by its app before it was accepted gets the app's code, and without a code 1000", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      for (const [code, reason, expected] of [
        [4001, "nope", [4001, "nope"]],
        [null, "", [1000, "ws.closed"]]
      ] as const) {
        const visitor = yield* upgrade(rivet)
        yield* (yield* hub.next).reply({ _tag: "WebSocketClose", code, reason, hibernate: false })
        const closed = yield* Effect.flip((yield* accepted(visitor)).socket.pull)
        assert.deepStrictEqual<ReadonlyArray<unknown>>([closed.code, closed.reason], expected)
      }
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("that cannot hibernate is closed in order when its actor sleeps", () =>
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const visitor = yield* upgrade(rivet)
      const app = yield* hub.next
      yield* app.reply(accept, { _tag: "WebSocketClose", code: null, reason: "actor.stopped", hibernate: true })
      const closed = yield* Effect.flip((yield* accepted(visitor)).socket.pull)
      assert.deepStrictEqual([closed.code, closed.reason], [1000, "actor.stopped"])
    }).pipe(Effect.provide(gatewayAlone()))
  )
})
