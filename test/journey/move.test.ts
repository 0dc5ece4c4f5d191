/** A runner whose hub is gone goes on at another: what that means for each kind of stream, and for whoever would like to be it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { TestClock } from "effect/testing"
import { Hub } from "../../src/hub/Hub.ts"
import { closeCodes } from "../../src/protocol/Wayleave1.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import { MemoryUpgrade, MemoryVisitor } from "../../src/testing/MemoryVisitor.ts"
import { connect } from "../../src/testing/ScriptedRunner.ts"
import type { MovedStream } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { atRest, type LiveHub, makeHubs, settle } from "./Hubs.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (data: Uint8Array) => new TextDecoder().decode(data)
const pattern = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 0xff)

/** An app in the hands of the test: `/events` sends what is put into a queue, `/upload` counts, `/big` sends all at once, `/never` is silent. */
const makeApp = Effect.gen(function* () {
  const events = yield* Queue.unbounded<string>()
  const uploaded: Array<Uint8Array> = []
  const pace = yield* Queue.unbounded<void>()
  const ends: Array<string> = []
  const big = pattern(3 * 1024 * 1024)
  const app = RunnerApp.of({
    request: Effect.fnUntraced(function* (stream) {
      switch (stream.target) {
        case "/events":
          yield* stream.start(200, [["content-type", "text/event-stream"]])
          for (;;) {
            const event = yield* Queue.take(events)
            if (event === "end") return yield* stream.finish()
            yield* stream.write(bytes(event))
          }
        case "/big":
          yield* stream.start(200, [])
          yield* stream.write(big)
          return yield* stream.finish()
        case "/upload":
          while (!stream.bodyTaken) {
            yield* Queue.take(pace)
            const chunks = yield* Effect.catch(stream.pull, () => Effect.succeed([]))
            if (chunks.length === 0) break
            uploaded.push(...chunks.map((chunk) => new Uint8Array(chunk)))
          }
          return yield* stream.respond(200, [], bytes(String(Buffer.concat(uploaded).length)))
        default:
          return yield* Effect.never
      }
    }),
    webSocket: Effect.fnUntraced(function* (stream) {
      yield* stream.accept([])
      for (;;) {
        const message = yield* Effect.catch(stream.pull, ({ code }) => {
          ends.push(String(code))
          return Effect.succeed(undefined)
        })
        if (message === undefined) return
        yield* stream.send(message.data)
      }
    })
  })
  return { app, events, uploaded, pace, big, ends }
})

const visit = Effect.fnUntraced(function* (
  hubs: Effect.Success<typeof makeHubs>,
  options: ConstructorParameters<typeof MemoryVisitor>[0]
) {
  const visitor = new MemoryVisitor(options)
  yield* Effect.forkChild(hubs.gateway.request(visitor.exchange))
  yield* settle
  return visitor
})

/** Two hubs, a runner at the first, and the second in front. */
const world = Effect.gen(function* () {
  const hubs = yield* makeHubs
  const first = yield* hubs.start()
  const second = yield* hubs.start()
  const app = yield* makeApp
  hubs.state.front = first
  yield* hubs.run(app.app)
  yield* settle
  hubs.state.front = second
  const crash = Effect.andThen(first.crash, settle)
  const reconnect = Effect.andThen(TestClock.adjust(limits.reconnectFirstMs * 1.2), settle)
  return { ...hubs, ...app, first, second, crash, reconnect }
})

const granted = ({ published }: LiveHub) => published.filter(({ _tag }) => _tag === "RouteQuestion").length

describe("where a hub crashes and its runner reaches another", () => {
  it.effect("an event stream goes on: what was said meanwhile comes, and nothing twice", () =>
    Effect.gen(function* () {
      const w = yield* world
      const visitor = yield* visit(w, { target: "/events" })
      yield* Queue.offer(w.events, "one ")
      yield* settle
      assert.strictEqual(visitor.text, "one ")
      yield* w.crash
      yield* Queue.offer(w.events, "two ")
      yield* settle
      yield* w.reconnect
      yield* Queue.offerAll(w.events, ["three ", "end"])
      yield* settle
      assert.strictEqual(visitor.answer.state, "complete")
      assert.strictEqual(visitor.text, "one two three ")
      assert.strictEqual(granted(w.second), 1)
      assert.isTrue(yield* atRest(w.gateway, [w.second]))
    })
  )

  it.effect("a WebSocket goes on, both ways, and its close codes still pass", () =>
    Effect.gen(function* () {
      const w = yield* world
      const visitor = new MemoryUpgrade({ target: "/echo" })
      yield* Effect.forkChild(w.gateway.upgrade(visitor.upgrade))
      const answer = yield* visitor.answered
      assert(answer._tag === "Accepted")
      const { socket } = answer
      const echoed = Effect.gen(function* () {
        socket.sendUnsafe(bytes("hello"), { binary: false, finish: true })
        const [message] = yield* socket.pull
        return text(message.data)
      })
      assert.strictEqual(yield* echoed, "hello")
      yield* w.crash
      yield* w.reconnect
      assert.strictEqual(yield* echoed, "hello")
      socket.closeUnsafe(4321, "bye")
      yield* settle
      assert.deepStrictEqual(w.ends, ["4321"])
      assert.isTrue(yield* atRest(w.gateway, [w.second]))
    })
  )

  it.effect("an upload goes on, with all the credit that was lost on the way", () =>
    Effect.gen(function* () {
      const w = yield* world
      const body = pattern(2 * 1024 * 1024)
      const visitor = yield* visit(w, { method: "POST", target: "/upload", hasBody: true })
      // The first window is spent before the crash, and the app has read nothing of it.
      visitor.send(body.subarray(0, limits.windowBytesInitial))
      yield* settle
      assert.strictEqual(visitor.untakenBytes, 0)
      visitor.send(body.subarray(limits.windowBytesInitial))
      visitor.endBody()
      yield* settle
      yield* w.crash
      // What the app reads now is granted to a hub that is not there any more.
      yield* Queue.offerAll(
        w.pace,
        Array.from({ length: 1_000 }, () => undefined)
      )
      yield* settle
      yield* w.reconnect
      assert.strictEqual(visitor.answer.state, "complete")
      assert.strictEqual(visitor.text, String(body.length))
      assert.strictEqual(Buffer.compare(Buffer.concat(w.uploaded), body), 0)
      assert.isTrue(yield* atRest(w.gateway, [w.second]))
    })
  )

  it.effect("a large download goes on, with all the credit that was lost on the way", () =>
    Effect.gen(function* () {
      const w = yield* world
      const visitor = yield* visit(w, { target: "/big", unreadBytesMax: 1 })
      assert.isAbove(visitor.unreadBytes, 0)
      yield* w.crash
      // What the visitor reads now is granted to a hub that is not there any more.
      visitor.read(Number.MAX_SAFE_INTEGER)
      yield* settle
      yield* w.reconnect
      while (visitor.unreadBytes > 0) {
        visitor.read(Number.MAX_SAFE_INTEGER)
        yield* settle
      }
      assert.strictEqual(visitor.answer.state, "complete")
      assert.strictEqual(Buffer.compare(Buffer.concat(visitor.answer.chunks), w.big), 0)
    })
  )

  it.effect("an answer whose end was lost with the hub is given again, once", () =>
    Effect.gen(function* () {
      const w = yield* world
      const visitor = yield* visit(w, { target: "/events" })
      yield* Queue.offer(w.events, "all there is")
      yield* settle
      yield* w.crash
      // The app is done before its runner is back: for the runner the stream is over.
      yield* Queue.offer(w.events, "end")
      yield* settle
      yield* w.reconnect
      assert.strictEqual(visitor.answer.state, "complete")
      assert.strictEqual(visitor.text, "all there is")
      assert.isTrue(yield* atRest(w.gateway, [w.second]))
    })
  )

  it.effect("a stream with bytes lost on their way down is reset by name, and no other is", () =>
    Effect.gen(function* () {
      const w = yield* world
      const upload = yield* visit(w, { method: "POST", target: "/upload", hasBody: true })
      const events = yield* visit(w, { target: "/events" })
      upload.send(bytes("first"))
      yield* settle
      yield* w.crash
      // Published to nobody: the gateway cannot know yet.
      upload.send(bytes("lost"))
      yield* settle
      yield* w.reconnect
      assert.strictEqual(upload.answer.status, 502)
      assert.include(upload.text, "runner_lost")
      yield* Queue.offerAll(w.events, ["goes on", "end"])
      yield* settle
      assert.strictEqual(events.text, "goes on")
      assert.isTrue(yield* atRest(w.gateway, [w.second]))
    })
  )

  it.effect("an upload waits once its gateway knows that the hub is gone, and loses nothing", () =>
    Effect.gen(function* () {
      const w = yield* world
      const visitor = yield* visit(w, { method: "POST", target: "/upload", hasBody: true })
      w.state.front = undefined
      yield* w.crash
      for (let i = 0; i < limits.leaseRenewalMs; i += 1_000) yield* Effect.andThen(TestClock.adjust(1_000), settle)
      visitor.send(bytes("waits"))
      visitor.endBody()
      yield* settle
      assert.strictEqual(visitor.untakenBytes, 5)
      w.state.front = w.second
      yield* Queue.offerAll(w.pace, [undefined, undefined])
      yield* TestClock.adjust(limits.reconnectMaxMs * 1.2)
      yield* settle
      assert.strictEqual(visitor.text, "5")
    })
  )

  it.effect("a stream whose runner never comes back ends with its grace, and so does what its visitor said last", () =>
    Effect.gen(function* () {
      const w = yield* world
      w.state.front = undefined
      const waiting = yield* visit(w, { target: "/never" })
      const leaving = yield* visit(w, { target: "/never" })
      yield* w.crash
      for (let i = 0; i < limits.leaseRenewalMs; i += 1_000) yield* Effect.andThen(TestClock.adjust(1_000), settle)
      leaving.leave()
      yield* TestClock.adjust(limits.sessionGraceMs - 1)
      yield* settle
      assert.strictEqual(waiting.answer.state, "open")
      assert.strictEqual(yield* w.gateway.streams, 2)
      yield* TestClock.adjust(1)
      yield* settle
      assert.strictEqual(waiting.answer.status, 502)
      assert.include(waiting.text, "runner_lost")
      assert.isTrue(yield* atRest(w.gateway, [w.second]))
    })
  )

  it.effect("a runner that moves away and comes back is known by neither numbering, and loses nothing", () =>
    Effect.gen(function* () {
      const w = yield* world
      const visitor = yield* visit(w, { target: "/events" })
      // Only the sockets break: both hubs live, and each keeps what it knew.
      for (const hub of [w.second, w.first, w.second]) {
        w.state.front = hub
        for (const other of [w.first, w.second]) for (const socket of other.sockets) socket.terminateUnsafe()
        yield* Queue.offer(w.events, "said ")
        yield* settle
        yield* w.reconnect
        yield* Queue.offer(w.events, "again ")
        yield* settle
        // Waits between dials grow until a connection has lasted.
        yield* TestClock.adjust(limits.reconnectMaxMs)
        yield* settle
      }
      yield* Queue.offer(w.events, "end")
      yield* settle
      assert.strictEqual(visitor.text, "said again said again said again ")
      assert.strictEqual(visitor.answer.state, "complete")
      assert.isTrue(yield* atRest(w.gateway, [w.first, w.second]))
      assert.strictEqual((yield* w.first.hub.state).sessions, 0)
    })
  )
})

describe("a hub that drains", () => {
  it.effect("fails no request while its runner finds another", () =>
    Effect.gen(function* () {
      const w = yield* world
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const open = yield* visit(w, { target: "/events" })
      const draining = yield* Effect.forkChild(w.first.hub.drain)
      const during: Array<MemoryVisitor> = []
      for (let i = 0; i < 20; i++) {
        during.push(yield* visit(w, { target: "/big" }))
        yield* TestClock.adjust(100)
      }
      yield* settle
      for (const visitor of during) assert.strictEqual(visitor.answer.state, "complete")
      yield* Queue.offerAll(w.events, ["to the end", "end"])
      yield* settle
      assert.strictEqual(open.text, "to the end")
      yield* TestClock.adjust(limits.leavingLingerMs)
      yield* settle
      assert.isDefined(draining.pollUnsafe())
      assert.strictEqual((yield* w.second.hub.state).sessions, 1)
    })
  )
})

describe("what does not finish at a hub that drains", () => {
  it.effect("goes on at another, whatever is said meanwhile, and the drain need not wait for it", () =>
    Effect.gen(function* () {
      const w = yield* world
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const visitor = new MemoryUpgrade({ target: "/echo" })
      yield* Effect.forkChild(w.gateway.upgrade(visitor.upgrade))
      const answer = yield* visitor.answered
      assert(answer._tag === "Accepted")
      const { socket } = answer
      const upload = yield* visit(w, { target: "/upload", method: "POST", hasBody: true })
      const events = yield* visit(w, { target: "/events" })
      const heard: Array<string> = []
      yield* Effect.forkChild(
        Effect.forever(
          Effect.map(socket.pull, (batch) => {
            for (const { data } of batch) heard.push(text(data))
          })
        )
      )
      const draining = yield* Effect.forkChild(w.first.hub.drain)
      const said: Array<string> = []
      const body: Array<Uint8Array> = []
      // Something is under way in both directions at each moment of it.
      for (let i = 0; draining.pollUnsafe() === undefined || i < 400; i++) {
        assert.isBelow(i, 2_000)
        said.push(`message ${i}`)
        socket.sendUnsafe(bytes(`message ${i}`), { binary: false, finish: true })
        body.push(pattern(1_000 + i))
        upload.send(pattern(1_000 + i))
        yield* Queue.offer(w.pace, undefined)
        yield* Queue.offer(w.events, `${i} `)
        yield* TestClock.adjust(25)
        if (i % 10 === 0) yield* settle
      }
      upload.endBody()
      yield* Queue.offerAll(
        w.pace,
        body.map(() => undefined)
      )
      yield* Queue.offer(w.events, "end")
      yield* TestClock.adjust(limits.reconnectMaxMs)
      yield* settle
      assert.deepStrictEqual(heard, said)
      assert.strictEqual(events.text, said.map((_, i) => `${i} `).join(""))
      assert.strictEqual(upload.text, String(body.reduce((sum, { length }) => sum + length, 0)))
      assert.isTrue(Buffer.concat(w.uploaded).equals(Buffer.concat(body)))
      assert.strictEqual((yield* w.first.hub.state).sessions, 0)
      socket.closeUnsafe(1000, "")
      yield* settle
      assert.isTrue(yield* atRest(w.gateway, [w.first, w.second]))
    })
  )

  it.effect("stays where its runner has found no other hub", () =>
    Effect.gen(function* () {
      const w = yield* world
      w.state.front = undefined
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const events = yield* visit(w, { target: "/events" })
      const draining = yield* Effect.forkChild(w.first.hub.drain)
      yield* TestClock.adjust(limits.drainNoticeMs + limits.drainFinishMs + 2 * limits.heldMs)
      yield* Queue.offerAll(w.events, ["to the end", "end"])
      yield* settle
      assert.strictEqual(events.text, "to the end")
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.isDefined(draining.pollUnsafe())
    })
  )
})

describe("somebody else", () => {
  const streamsOf = (hub: LiveHub): ReadonlyArray<MovedStream> =>
    hub.published.flatMap((envelope) =>
      envelope._tag === "Uplink"
        ? [{ route: envelope.route, from: 0, open: { next: 1, credited: 0, granted: 1_000_000 } }]
        : []
    )

  it.effect("who asks for a runner's streams gets a Reset, as for streams that there never were", () =>
    Effect.gen(function* () {
      const w = yield* world
      const visitor = yield* visit(w, { target: "/events" })
      const [stolen] = streamsOf(w.first)
      assert(stolen !== undefined)
      const invented = { ...stolen, route: { ...stolen.route, requestId: (stolen.route.requestId ^ 1) >>> 0 } }
      const nowhere = { ...stolen, route: { gatewayId: 1, requestId: 1 } }
      const thief = yield* connect({
        name: "web",
        session: 9,
        connection: 9,
        streams: [stolen, invented, nowhere]
      }).pipe(Effect.provideService(Hub, w.second.hub))
      assert.strictEqual(thief.welcome.outcome, "adopted")
      for (const { route } of [stolen, invented, nowhere]) {
        assert.deepStrictEqual(yield* thief.next, { _tag: "Reset", route, code: "unknown_route" })
      }
      yield* thief.frames([
        { route: stolen.route, index: 0, frame: { _tag: "ResponseAbort", code: "cancelled", message: "" } }
      ])
      yield* settle
      yield* Queue.offerAll(w.events, ["safe", "end"])
      yield* settle
      assert.strictEqual(visitor.text, "safe")
      assert.isEmpty(w.second.published.filter(({ _tag }) => _tag === "Uplink"))
    })
  )

  it.effect("with a connection that is older than the one heard of is refused, however well he knows the session", () =>
    Effect.gen(function* () {
      const hubs = yield* makeHubs
      const first = yield* hubs.start()
      const second = yield* hubs.start()
      const newer = yield* connect({ name: "web", connection: 5 }).pipe(Effect.provideService(Hub, first.hub))
      const visitor = yield* visit(hubs, { target: "/" })
      const { route } = yield* newer.nextFrame
      const stream = { route, from: 0, open: { next: 1, credited: 0, granted: 0 } }
      const older = yield* connect({ name: "web", connection: 4, streams: [stream] }).pipe(
        Effect.provideService(Hub, second.hub)
      )
      assert.deepStrictEqual(yield* older.next, { _tag: "Reset", route, code: "unknown_route" })
      yield* newer.frames([
        {
          route,
          index: 0,
          frame: { _tag: "ResponseStart", status: 200, headers: [], body: bytes("ok"), streamed: false }
        }
      ])
      yield* settle
      assert.strictEqual(visitor.text, "ok")
    })
  )
})

describe("one session at two hubs", () => {
  it.effect("is fenced at the older by the newer within a second, and answers nothing more from there", () =>
    Effect.gen(function* () {
      const hubs = yield* makeHubs
      const first = yield* hubs.start()
      const second = yield* hubs.start()
      const older = yield* connect({ name: "web", connection: 1 }).pipe(Effect.provideService(Hub, first.hub))
      const visitor = yield* visit(hubs, { target: "/" })
      const { route } = yield* older.nextFrame
      const newer = yield* connect({
        name: "web",
        connection: 2,
        hub: older.welcome.hub,
        streams: [{ route, from: 0, open: { next: 1, credited: 0, granted: 0 } }]
      }).pipe(Effect.provideService(Hub, second.hub))
      const before = first.published.filter(({ _tag }) => _tag === "Uplink").length
      yield* older.frames([
        {
          route,
          index: 0,
          frame: { _tag: "ResponseStart", status: 500, headers: [], body: bytes("old"), streamed: false }
        }
      ])
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.strictEqual(older.socket.closedUnsafe()?.code, closeCodes.fenced.code)
      assert.strictEqual(first.published.filter(({ _tag }) => _tag === "Uplink").length, before)
      assert.strictEqual((yield* first.hub.state).sessions, 0)
      assert.strictEqual(visitor.answer.state, "open")
      yield* newer.frames([
        {
          route,
          index: 0,
          frame: { _tag: "ResponseStart", status: 200, headers: [], body: bytes("new"), streamed: false }
        }
      ])
      yield* settle
      assert.strictEqual(visitor.text, "new")
      assert.isTrue(yield* atRest(hubs.gateway, [first, second]))
    })
  )

  it.effect("is told of the newer where the older comes later", () =>
    Effect.gen(function* () {
      const hubs = yield* makeHubs
      const first = yield* hubs.start()
      const second = yield* hubs.start()
      const newer = yield* connect({ name: "web", connection: 7 }).pipe(Effect.provideService(Hub, first.hub))
      const older = yield* connect({ name: "web", connection: 3 }).pipe(Effect.provideService(Hub, second.hub))
      yield* settle
      assert.strictEqual(older.socket.closedUnsafe()?.code, closeCodes.fenced.code)
      assert.isUndefined(newer.socket.closedUnsafe())
    })
  )

  it.effect("has its unseen requests asked again, and those of a stream that it does not go on with end", () =>
    Effect.gen(function* () {
      const hubs = yield* makeHubs
      const first = yield* hubs.start()
      const second = yield* hubs.start()
      const older = yield* connect({ name: "web", connection: 1 }).pipe(Effect.provideService(Hub, first.hub))
      const seen = yield* visit(hubs, { target: "/seen" })
      const { route } = yield* older.nextFrame
      older.socket.terminateUnsafe()
      yield* settle
      const unseen = yield* visit(hubs, { target: "/unseen" })
      const newer = yield* connect({ name: "web", connection: 2, hub: older.welcome.hub }).pipe(
        Effect.provideService(Hub, second.hub)
      )
      assert.strictEqual(newer.welcome.outcome, "begun")
      const again = yield* newer.nextFrame
      assert.deepInclude(again.frame, { _tag: "RequestStart", target: "/unseen" })
      yield* newer.frames([
        {
          route: again.route,
          index: 0,
          frame: { _tag: "ResponseStart", status: 200, headers: [], body: bytes("once"), streamed: false }
        }
      ])
      yield* settle
      assert.strictEqual(unseen.text, "once")
      assert.notDeepEqual(again.route, route)
      assert.strictEqual(seen.answer.state, "open")
      yield* TestClock.adjust(limits.sessionGraceMs)
      yield* settle
      assert.include(seen.text, "runner_lost")
      assert.isTrue(yield* atRest(hubs.gateway, [first, second]))
    })
  )
})
