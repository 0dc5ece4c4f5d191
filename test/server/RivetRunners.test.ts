import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Redacted, Scope } from "effect"
import { WebSocket } from "ws"
import { layerMemory as kvMemory } from "../../src/actor/ActorKv.ts"
import { layerOpen, layerTokens } from "../../src/auth/Authenticator.ts"
import { layerMemory as busMemory } from "../../src/bus/MessageBus.ts"
import { layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { layer as hubLayer } from "../../src/hub/Hub.ts"
import { versionOf } from "../../src/protocol/Rivet.ts"
import { layerMemory as routesMemory } from "../../src/route/RouteStore.ts"
import { NodeServer, type NodeServerOptions, layer as nodeServer } from "../../src/server/NodeServer.ts"
import { Dialer } from "../../src/socket/MessageSocket.ts"
import { layerDialer } from "../../src/socket/WsSocket.ts"
import { init, onSocket, queryOf } from "../../src/testing/ScriptedRivetRunner.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { controlOn } from "../actor/ControlHarness.ts"
import { answer, bytesOf } from "../hub/rivet/RivetHarness.ts"

const served = (auth: typeof layerOpen = layerOpen, more: Partial<NodeServerOptions> = {}) =>
  nodeServer({ host: "127.0.0.1", port: 0, ...more }).pipe(
    Layer.provideMerge(Layer.mergeAll(gatewayLayer(), hubLayer())),
    Layer.provideMerge(Layer.mergeAll(busMemory, routesMemory, auth, layerNoop, controlOn(), kvMemory, layerDialer))
  )

const pathOf = (version: number) => `/runners/connect?${queryOf({ version })}`

/** A runner on a real socket, which has said init. */
const connect = Effect.fnUntraced(function* (
  version: number,
  protocols: ReadonlyArray<string> = ["rivet"],
  headers: ReadonlyArray<readonly [string, string]> = []
) {
  const { port } = yield* NodeServer
  const dialer = yield* Dialer
  const socket = yield* dialer.dial(`ws://127.0.0.1:${port}${pathOf(version)}`, { protocols, headers })
  const runner = yield* onSocket(socket, version, { pongs: true })
  yield* runner.say(init())
  return { ...runner, port }
})

/** Does for each of its actors what the published client does: says that it runs. */
const running = Effect.fnUntraced(function* (runner: Effect.Success<ReturnType<typeof connect>>) {
  const told = yield* runner.nextActor
  if (told._tag !== "Commands") throw new Error(told._tag)
  const checkpoint = told.commands[0]?.checkpoint
  if (checkpoint === undefined) throw new Error("no command")
  yield* runner.say({
    _tag: "Events",
    events: [{ checkpoint: { ...checkpoint, index: 0n }, event: { _tag: "Running" } }]
  })
})

const visit = (port: number, body?: Uint8Array) =>
  Effect.promise(() =>
    fetch(`http://127.0.0.1:${port}/`, {
      headers: { "x-wayleave-name": "pool" },
      ...(body === undefined ? {} : { method: "POST", body: Buffer.from(body) })
    })
  )

describe.each([1, 2, 3, 4, 5, 6, 7])("version %i on a real socket", (version) => {
  it.live("is welcomed, has its actor started for the first visitor, and answers", () =>
    Effect.gen(function* () {
      const runner = yield* connect(version)
      assert.strictEqual((yield* runner.nextActor)._tag, "Welcome")
      const visiting = yield* Effect.forkChild(visit(runner.port, bytesOf(70_000)))
      yield* running(runner)
      const asked = yield* runner.nextFrame
      assert.isTrue(
        asked.frame._tag === "RequestStart" && Buffer.from(asked.frame.body).equals(Buffer.from(bytesOf(70_000)))
      )
      yield* runner.frame(asked.route, answer(bytesOf(80_000, 3)))
      const response = yield* Fiber.join(visiting)
      assert.strictEqual(response.status, 200)
      const body = Buffer.from(yield* Effect.promise(() => response.arrayBuffer()))
      assert.isTrue(body.equals(Buffer.from(bytesOf(80_000, 3))))
    }).pipe(Effect.scoped, Effect.provide(served()))
  )
})

describe("the handshake of a Rivet runner", () => {
  for (const [what, offered] of [
    ["alone", ["rivet"]],
    ["before its token", ["rivet", "rivet_token.secret"]],
    ["behind its token", ["rivet_token.secret", "rivet"]]
  ] as const) {
    it.live(`that offers rivet ${what} is answered with exactly that`, () =>
      Effect.gen(function* () {
        const { socket } = yield* connect(7, offered)
        assert.strictEqual(socket.protocol, "rivet")
      }).pipe(Effect.scoped, Effect.provide(served()))
    )
  }

  const auth = layerTokens([{ token: Redacted.make("secret"), names: ["pool"] }])
  const withToken = (
    name: string,
    protocols: ReadonlyArray<string>,
    headers: ReadonlyArray<readonly [string, string]>,
    isRight: boolean
  ) =>
    it.live(name, () =>
      Effect.gen(function* () {
        const runner = yield* connect(7, protocols, headers)
        if (isRight) return assert.strictEqual((yield* runner.nextActor)._tag, "Welcome")
        const { code, reason } = yield* runner.closed
        assert.deepStrictEqual([code, reason.split("#")[0]], [1011, "api.forbidden"])
      }).pipe(Effect.scoped, Effect.provide(served(auth)))
    )
  withToken("carries its token as a subprotocol", ["rivet", "rivet_token.secret"], [], true)
  withToken("or in a header", ["rivet"], [["x-rivet-token", "secret"]], true)
  withToken("or as others do", ["rivet"], [["authorization", "Bearer secret"]], true)
  withToken("and with a wrong one is refused by a close, not by a status", ["rivet", "rivet_token.wrong"], [], false)
})

describe("a message on a real socket", () => {
  it.live("of 20 MiB of body passes, to the last byte", () =>
    Effect.gen(function* () {
      const runner = yield* connect(7)
      yield* runner.nextActor
      const visiting = yield* Effect.forkChild(visit(runner.port))
      yield* running(runner)
      const body = Buffer.alloc(limits.rivetPayloadBytesMax, "0123456789")
      yield* runner.frame((yield* runner.nextFrame).route, answer(body))
      const response = yield* Fiber.join(visiting)
      assert.isTrue(Buffer.from(yield* Effect.promise(() => response.arrayBuffer())).equals(body))
    }).pipe(Effect.scoped, Effect.provide(served()))
  )

  it.live("beyond 32 MiB ends the connection, as too large", () =>
    Effect.gen(function* () {
      const runner = yield* connect(7)
      yield* runner.nextActor
      yield* runner.sayBytes(new Uint8Array(limits.rivetMessageBytesMax + 1))
      assert.strictEqual((yield* runner.closed).code, 1009)
    }).pipe(Effect.scoped, Effect.provide(served()))
  )
})

it.live("a server that closes tells its Rivet runners to come back, which only one reason would keep them from", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const context = yield* Layer.buildWithScope(served(), scope)
    const runner = yield* Effect.provideContext(connect(7), context)
    yield* runner.nextActor
    yield* Scope.close(scope, Exit.void)
    const { code, reason } = yield* runner.closed
    assert.deepStrictEqual([code, reason.split("#")[0]], [1011, "ws.going_away"])
  }).pipe(Effect.scoped)
)

describe("a runner whose version knows no ping of a hub's", () => {
  /** A bare socket: its library answers pings, or does not. What it was sent, and when it was cut off. */
  const bare = Effect.fnUntraced(function* (version: number, autoPong: boolean) {
    const { port } = yield* NodeServer
    const query = queryOf({ version, key: `answers ${autoPong}` })
    const ws = new WebSocket(`ws://127.0.0.1:${port}/runners/connect?${query}`, ["rivet"], { autoPong })
    yield* Effect.addFinalizer(() => Effect.sync(() => ws.terminate()))
    let pings = 0
    ws.on("ping", () => pings++)
    const closed = Effect.callback<number>((resume) => {
      ws.once("close", (code) => resume(Effect.succeed(code)))
    })
    const pinged = (count: number) =>
      Effect.callback<void>((resume) => {
        const look = () => {
          if (pings >= count) resume(Effect.void)
        }
        ws.on("ping", look)
        look()
      })
    yield* Effect.callback<void>((resume) => {
      ws.once("open", () => resume(Effect.void))
    })
    const said = versionOf(version)?.encodeUp({ _tag: "Actor", message: init() })
    ws.send(said as Uint8Array)
    return { ws, closed, pinged, pings: () => pings }
  })
  const quick = { rivetSilence: { pingMs: 20, silentMs: 100, stallMs: 100 } }

  for (const version of [1, 2, 3]) {
    it.live(`version ${version}: is cut off once it answers nothing, and kept while it does`, () =>
      Effect.gen(function* () {
        const dead = yield* bare(version, false)
        const quiet = yield* bare(version, true)
        assert.strictEqual(yield* dead.closed, 1006)
        yield* quiet.pinged(10)
        assert.strictEqual(quiet.ws.readyState, WebSocket.OPEN)
      }).pipe(Effect.scoped, Effect.provide(served(layerOpen, quick)))
    )
  }

  it.live("the others are pinged in their own words alone", () =>
    Effect.gen(function* () {
      const later = yield* bare(7, true)
      const earlier = yield* bare(3, true)
      yield* earlier.pinged(5)
      assert.strictEqual(later.pings(), 0)
    }).pipe(Effect.scoped, Effect.provide(served(layerOpen, quick)))
  )
})
