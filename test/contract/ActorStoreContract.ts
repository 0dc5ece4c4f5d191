/** What every store of the control plane owes: what was written is loaded again, all of a write or nothing, in the order of creation. */
import { assert, it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { born, type Life, transition } from "../../src/actor/ActorLife.ts"
import { ActorStore, type StoreChanges, type StoredActor, type StoredRunner } from "../../src/actor/ActorStore.ts"
import { SessionId } from "../../src/tunnel/Envelope.ts"

const session = SessionId.make("5".repeat(32))

export const noChanges: StoreChanges = {
  created: [],
  lives: [],
  forgotten: [],
  runners: [],
  forgottenRunners: [],
  aliveAtMs: 1
}

export const storedActor = (actorId: string, changes: Partial<StoredActor["request"]> = {}): StoredActor => ({
  actorId,
  request: {
    name: "a\u0000name",
    key: "schlüssel 🗝",
    runnerName: "pool",
    crashPolicy: "sleep",
    input: new Uint8Array([0, 1, 255]),
    ...changes
  },
  createdAtMs: 1_700_000_000_123,
  life: born("sleep", 1_700_000_000_123)
})

export const storedRunner = (changes: Partial<StoredRunner> = {}): StoredRunner => ({
  session,
  introduction: {
    name: "pool",
    key: "key",
    version: 2 ** 32 - 1,
    totalSlots: 2 ** 32 - 1,
    protocolVersion: 7,
    actorNames: new Map([["counter", '{"a":1}']]),
    metadata: '{"b":2}'
  },
  createdAtMs: 1,
  lastSeenAtMs: 2,
  connected: true,
  drainingSinceMs: 3,
  goneAtMs: null,
  lost: false,
  owedStops: [{ actorId: "a", generation: 4 }],
  ...changes
})

/** One life in each state. */
const lives: ReadonlyArray<Life> = (() => {
  const begin = born("restart", 5)
  const starting = transition(begin, { _tag: "Allocated", runner: session }, 6).life
  const running = transition(starting, { _tag: "Running" }, 7.5).life
  const alarmed = transition(running, { _tag: "SetAlarm", atMs: Number(2n ** 63n - 1n) }, 8).life
  const stopping = transition(alarmed, { _tag: "WantsSleep" }, 9).life
  const sleeping = transition(stopping, { _tag: "Stopped", said: "ok" }, 10).life
  const moving = transition(running, { _tag: "Reschedule" }, 11).life
  const moved = transition(moving, { _tag: "Stopped", said: "ok" }, 12).life
  const crashed = transition({ ...running, crashes: 3 }, { _tag: "Stopped", said: "error" }, 13).life
  const destroyed = transition(crashed, { _tag: "Destroy" }, 14).life
  return [begin, starting, running, alarmed, stopping, sleeping, moving, moved, crashed, destroyed]
})()

/** The suite, on a fresh store each time. */
export const actorStoreContract = <E>(name: string, layer: Layer.Layer<ActorStore, E>): void => {
  const test = (title: string, body: (store: ActorStore["Service"]) => Effect.Effect<void, unknown>) =>
    it.effect(`${name}: ${title}`, () => Effect.provide(ActorStore.use(body), layer))

  test("is empty at first", (store) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* store.load, { actors: [], runners: [], aliveAtMs: null })
    }))

  test("loads actors in the order of their creation, as they were created", (store) =>
    Effect.gen(function* () {
      const actors = [storedActor("c"), storedActor("a", { key: null, input: null }), storedActor("b")]
      yield* store.write({ ...noChanges, created: actors.slice(0, 2) })
      yield* store.write({ ...noChanges, created: actors.slice(2), aliveAtMs: 77 })
      const world = yield* store.load
      assert.deepStrictEqual(
        world.actors.map(({ request, ...rest }) => ({
          ...rest,
          request: { ...request, input: [...(request.input ?? [])] }
        })),
        actors.map(({ request, ...rest }) => ({ ...rest, request: { ...request, input: [...(request.input ?? [])] } }))
      )
      assert.strictEqual(world.aliveAtMs, 77)
    }))

  test("keeps the last life of each actor, in every state", (store) =>
    Effect.gen(function* () {
      yield* store.write({ ...noChanges, created: lives.map((_, at) => storedActor(`actor ${at}`)) })
      yield* store.write({
        ...noChanges,
        lives: [
          { actorId: "actor 0", life: lives[5] as Life },
          ...lives.map((life, at) => ({ actorId: `actor ${at}`, life }))
        ]
      })
      assert.deepStrictEqual(
        (yield* store.load).actors.map(({ life }) => life),
        lives
      )
    }))

  test("forgets actors, and does not bring one back that it does not keep", (store) =>
    Effect.gen(function* () {
      yield* store.write({ ...noChanges, created: [storedActor("a"), storedActor("b")] })
      yield* store.write({
        ...noChanges,
        lives: [
          { actorId: "a", life: lives[2] as Life },
          { actorId: "unknown", life: lives[2] as Life }
        ],
        forgotten: ["a"]
      })
      yield* store.write({
        ...noChanges,
        lives: [{ actorId: "a", life: lives[3] as Life }],
        forgotten: ["never there"]
      })
      assert.deepStrictEqual(
        (yield* store.load).actors.map(({ actorId }) => actorId),
        ["b"]
      )
    }))

  test("what is created, lives and is forgotten in one write is not there", (store) =>
    Effect.gen(function* () {
      yield* store.write({
        ...noChanges,
        created: [storedActor("a")],
        lives: [{ actorId: "a", life: lives[9] as Life }],
        forgotten: ["a"]
      })
      assert.deepStrictEqual((yield* store.load).actors, [])
    }))

  test("keeps runners whole, each as it was written last", (store) =>
    Effect.gen(function* () {
      const other = SessionId.make("6".repeat(32))
      yield* store.write({ ...noChanges, runners: [storedRunner(), storedRunner({ session: other })] })
      const later = storedRunner({ connected: false, drainingSinceMs: null, goneAtMs: 9, lost: true, owedStops: [] })
      yield* store.write({ ...noChanges, runners: [later], forgottenRunners: [other] })
      const world = yield* store.load
      assert.deepStrictEqual(world.runners, [later])
      assert.deepStrictEqual([...(world.runners[0]?.introduction.actorNames ?? [])], [["counter", '{"a":1}']])
    }))

  test("takes ten thousand at once", (store) =>
    Effect.gen(function* () {
      const created = Array.from({ length: 10_000 }, (_, at) => storedActor(`actor ${at}`))
      yield* store.write({ ...noChanges, created })
      const { actors } = yield* store.load
      assert.strictEqual(actors.length, 10_000)
      assert.strictEqual(actors[9_999]?.actorId, "actor 9999")
    }))
}
