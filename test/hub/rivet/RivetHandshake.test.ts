import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Redacted } from "effect"
import { TestClock } from "effect/testing"
import * as RivetId from "../../../src/actor/RivetId.ts"
import { layerOpen, layerTokens } from "../../../src/auth/Authenticator.ts"
import { layerMemory as busMemory } from "../../../src/bus/MessageBus.ts"
import { Hub, layer as hubLayer } from "../../../src/hub/Hub.ts"
import { versionOf } from "../../../src/protocol/Rivet.ts"
import { layerMemory as routesMemory } from "../../../src/route/RouteStore.ts"
import { pair } from "../../../src/socket/MessageSocket.ts"
import { connect, dial, init, queryOf } from "../../../src/testing/ScriptedRivetRunner.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { codecOf } from "../../protocol/versions.ts"
import type { ControlTwin } from "./ControlTwin.ts"
import { all, mk1, scenario, settle } from "./RivetHarness.ts"

const hex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString("hex")
const bytesOf = (text: string) => Uint8Array.from(Buffer.from(text, "hex"))

/** What the hub closed with: the code, and the reason as a client reads it. */
const refusal = (closed: { readonly code: number; readonly reason: string } | undefined) => {
  if (closed === undefined) return undefined
  const [text, ray] = closed.reason.split("#")
  assert.isDefined(ray, closed.reason)
  assert.isDefined(RivetId.parse(ray as string), "the ray is an id")
  assert.isAtMost(Buffer.byteLength(closed.reason), 123)
  return `${closed.code} ${text}`
}

type Dialled = Effect.Success<ReturnType<typeof dial>>

/** Whatever the runner did, it is told after a while and not at once: it would be back within a second, for ever. */
const refusedSlowly = Effect.fnUntraced(function* (runner: Dialled, want: string) {
  yield* settle
  yield* TestClock.adjust(limits.rivetRefusalMs - 1)
  yield* settle
  assert.isUndefined(runner.socket.closedUnsafe())
  yield* TestClock.adjust(1)
  yield* settle
  assert.strictEqual(refusal(runner.socket.closedUnsafe()), want)
  yield* Fiber.join(runner.accepted)
  assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
})

const refusedForQuery = (name: string, query: string, want: string) =>
  scenario(name, () => Effect.flatMap(dial({ version: 7, query }), (runner) => refusedSlowly(runner, want)))

describe("an address", () => {
  const good = queryOf({ version: 7 })
  for (const missing of ["protocol_version", "namespace", "runner_key"]) {
    const query = good.replace(new RegExp(`${missing}=[^&]*&?`), "")
    refusedForQuery(`without ${missing} is refused before init`, query, "1011 ws.invalid_url")
  }
  for (const version of ["", "x", "-1", "7.0", "65536", "99999"]) {
    refusedForQuery(
      `with the version "${version}" is refused before init`,
      good.replace("protocol_version=7", `protocol_version=${version}`),
      "1011 ws.invalid_url"
    )
  }
  refusedForQuery(
    "of a namespace that is not here is refused",
    good.replace("default", "other"),
    "1011 namespace.not_found"
  )
  refusedForQuery("with a key too long to keep is refused", `${good}${"k".repeat(256)}`, "1011 ws.invalid_url")

  scenario("names its key percent-encoded, and says more than anybody asks", (twin) =>
    Effect.gen(function* () {
      const query = `x=1&${queryOf({ version: 7, key: "a b/ü&=" })}&runner_key=second`
      const runner = yield* dial({ version: 7, query })
      yield* runner.say(init())
      yield* runner.nextActor
      assert.strictEqual(twin.introductions[0]?.key, "a b/ü&=")
    })
  )
})

describe.each(all)("version %i: a handshake", (version) => {
  const first = (name: string, say: (runner: Dialled) => Effect.Effect<void>, want: string) =>
    scenario(name, () =>
      Effect.gen(function* () {
        const runner = yield* dial({ version })
        yield* say(runner)
        yield* refusedSlowly(runner, want)
      })
    )
  first("that begins with text is refused", (runner) => runner.sayText("{}"), "1011 ws.invalid_initial_packet")
  first(
    "that begins with another message is refused",
    (runner) => runner.say({ _tag: "Stopping" }),
    "1011 ws.invalid_initial_packet"
  )
  first(
    "that begins with a tunnel message is refused",
    (runner) => runner.frame({ gatewayId: 1, requestId: 1 }, { _tag: "ResponseAbort", code: "cancelled", message: "" }),
    "1011 ws.invalid_initial_packet"
  )
  first("that begins with garbage is refused", (runner) => runner.sayBytes(bytesOf("ffee")), "1011 ws.invalid_packet")
  first(
    "that begins with an empty message is refused",
    (runner) => runner.sayBytes(new Uint8Array(0)),
    "1011 ws.invalid_packet"
  )
  first(
    "whose init has a byte too many is refused",
    (runner) =>
      runner.sayBytes(
        Buffer.concat([
          versionOf(version)?.encodeUp({ _tag: "Actor", message: init() }) as Uint8Array,
          Buffer.from([0])
        ])
      ),
    "1011 ws.invalid_packet"
  )
  first(
    "of a runner without room is refused",
    (runner) => runner.say(init({ totalSlots: 0 })),
    "1011 ws.invalid_initial_packet"
  )
  first(
    "of a runner without a name is refused",
    (runner) => runner.say(init({ name: "" })),
    "1011 ws.invalid_initial_packet"
  )
})

describe.each(all)("version %i: a handshake", (version) => {
  scenario("without init is refused after five seconds", () =>
    Effect.gen(function* () {
      const runner = yield* dial({ version })
      yield* TestClock.adjust(limits.helloTimeoutMs - 1)
      yield* runner.say(init())
      yield* settle
      assert.strictEqual((yield* runner.nextActor)._tag, "Welcome")
      const late = yield* dial({ version, key: "late" })
      yield* TestClock.adjust(limits.helloTimeoutMs)
      // Too late, and not read any more.
      yield* late.say(init())
      yield* settle
      yield* TestClock.adjust(limits.rivetRefusalMs)
      yield* settle
      assert.strictEqual(refusal(late.socket.closedUnsafe()), "1011 ws.timed_out_waiting_for_init")
    })
  )
})

describe("a handshake", () => {
  for (const version of [0, 8, 65_535]) {
    scenario(`in version ${version}, which nobody speaks, is refused at init`, () =>
      Effect.gen(function* () {
        const runner = yield* dial({ version: 7, query: queryOf({ version }) })
        yield* runner.say(init())
        yield* refusedSlowly(runner, "1011 ws.invalid_packet")
      })
    )
  }

  scenario("that the runner breaks off leaves nothing", () =>
    Effect.gen(function* () {
      const runner = yield* dial({ version: 7 })
      runner.socket.closeUnsafe(1000, "")
      yield* Fiber.join(runner.accepted)
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
    })
  )

  scenario("at a hub that drains is told to go elsewhere, at once", () =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(Hub.use((hub) => hub.drain))
      yield* settle
      const runner = yield* dial({ version: 7 })
      assert.strictEqual(refusal(yield* runner.closed), "1011 ws.going_away")
    })
  )

  it.effect("at a hub without a control plane is refused slowly", () =>
    Effect.gen(function* () {
      const [socket, remote] = pair({ protocol: "rivet" })
      yield* Effect.forkScoped(
        Hub.use((hub) =>
          hub.accept(remote, { token: Option.none(), remoteAddress: "192.0.2.1", rivetQuery: queryOf({ version: 7 }) })
        )
      )
      yield* settle
      assert.isUndefined(socket.closedUnsafe())
      yield* TestClock.adjust(limits.rivetRefusalMs)
      yield* settle
      assert.strictEqual(refusal(socket.closedUnsafe()), "1011 guard.service_unavailable")
    }).pipe(Effect.provide(hubLayer().pipe(Layer.provideMerge(Layer.mergeAll(busMemory, routesMemory, layerOpen)))))
  )

  const auth = layerTokens([{ token: Redacted.make("right"), names: ["pool"] }])
  const withToken = (name: string, token: string | undefined, runnerName: string, want: string) =>
    scenario(
      name,
      () =>
        Effect.gen(function* () {
          const runner = yield* dial({
            version: 7,
            name: runnerName,
            ...(token === undefined ? {} : { token: Redacted.make(token) })
          })
          yield* runner.say(init({ name: runnerName }))
          yield* refusedSlowly(runner, want)
        }),
      { auth }
    )
  withToken("without the token that is due is refused", undefined, "pool", "1011 guard.missing_header")
  withToken("with a wrong token is refused", "wrong", "pool", "1011 api.forbidden")
  withToken("with a token for another name is refused", "right", "other", "1011 api.forbidden")
  scenario(
    "with the right token is welcomed",
    () => Effect.asVoid(connect({ version: 7, token: Redacted.make("right") })),
    { auth }
  )
})

describe("the welcome", () => {
  const id = "0".repeat(31)
  const runnerId = RivetId.ofSession(`${id}1` as never)
  const text = hex(Buffer.from(runnerId))
  // By section 2.2: runner id, then (mk1) the last event, then what the version has of the thresholds: 15 s, 30 min, none.
  const lost = "983a000000000000"
  const stop = "40771b0000000000"
  const head = `001e${text}`
  const layouts: Readonly<Record<number, string>> = {
    1: `${head}ffffffffffffffff${lost}`,
    2: `${head}ffffffffffffffff${lost}`,
    3: `${head}ffffffffffffffff${lost}`,
    4: `${head}${lost}`,
    5: `${head}${lost}`,
    6: `${head}${lost}${stop}00`,
    7: `${head}${lost}${stop}00`
  }
  for (const version of all) {
    scenario(`of version ${version} is laid out byte by byte as that version has it, and comes first`, () =>
      Effect.gen(function* () {
        const runner = yield* connect({ version })
        assert.strictEqual(hex(runner.heard[0]?.bytes), layouts[version])
        assert.strictEqual(runner.welcome.runnerId, runnerId)
      })
    )

    scenario(
      `of version ${version} needs no more than init, and what follows init in one read is read`,
      (twin: ControlTwin) =>
        Effect.gen(function* () {
          const runner = yield* dial({ version })
          const codec = codecOf(version, "ToServer")
          const event = { _tag: "Actor", message: { _tag: "Events", events: [running] } } as const
          yield* runner.sayBytes(
            runner.version.encodeUp({ _tag: "Actor", message: init() }) as Uint8Array,
            runner.version.encodeUp(event) as Uint8Array,
            codec.encode({ tag: "ToServerStopping", val: null })
          )
          assert.strictEqual((yield* runner.nextActor)._tag, "Welcome")
          yield* settle
          assert.strictEqual(twin.events.length, 1)
          assert.strictEqual(twin.draining.length, 1)
        })
    )
  }

  scenario("says the same id after a reconnect", () =>
    Effect.gen(function* () {
      const first = yield* connect({ version: 7 })
      first.socket.terminateUnsafe()
      yield* Fiber.join(first.accepted)
      const second = yield* connect({ version: 7 })
      assert.strictEqual(second.welcome.runnerId, first.welcome.runnerId)
    })
  )

  scenario("says another id once the runner was lost", () =>
    Effect.gen(function* () {
      const first = yield* connect({ version: 7 })
      first.socket.terminateUnsafe()
      yield* Fiber.join(first.accepted)
      yield* TestClock.adjust(limits.runnerLostMs)
      const second = yield* connect({ version: 7 })
      assert.notStrictEqual(second.welcome.runnerId, first.welcome.runnerId)
    })
  )

  for (const version of mk1) {
    scenario(`of version ${version} comes again where init does`, () =>
      Effect.gen(function* () {
        const runner = yield* connect({ version })
        yield* runner.say(init())
        assert.deepStrictEqual(yield* runner.nextActor, runner.welcome)
      })
    )
  }
  for (const version of all.filter((one) => !mk1.includes(one))) {
    scenario(`of version ${version} does not come again`, () =>
      Effect.gen(function* () {
        const runner = yield* connect({ version })
        yield* runner.say(init())
        yield* settle
        assert.deepStrictEqual(yield* runner.pending, [])
        assert.isUndefined(runner.socket.closedUnsafe())
      })
    )
  }
})

const running = {
  checkpoint: { actorId: RivetId.make(new Uint8Array(16)), generation: 0, index: 0n },
  event: { _tag: "Running" }
} as const

describe("an upgrade in place", () => {
  scenario("is spoken to in the new version, under the same id", (twin) =>
    Effect.gen(function* () {
      const old = yield* connect({ version: 5 })
      old.socket.terminateUnsafe()
      yield* Fiber.join(old.accepted)
      const upgraded = yield* connect({ version: 7 })
      assert.strictEqual(upgraded.welcome.runnerId, old.welcome.runnerId)
      assert.deepStrictEqual(
        twin.introductions.map(({ protocolVersion }) => protocolVersion),
        [5, 7]
      )
    })
  )
})
