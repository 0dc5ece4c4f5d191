/**
 * Random interleavings of what runner, visitors and the network do, against a whole hub. One seed decides a run; a failure names it, and
 * `RIVET_SEEDS=n npx vitest run --config .config/vitest.config.ts test/hub/rivet/RivetModel.test.ts` runs that one again.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Metric } from "effect"
import { Hub } from "../../../src/hub/Hub.ts"
import * as HubMetrics from "../../../src/hub/HubMetrics.ts"
import { RouteStore } from "../../../src/route/RouteStore.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { ControlTwin } from "./ControlTwin.ts"
import { rivetGateway, rivetHub } from "./RivetHarness.ts"
import { chanceOf, World } from "./RivetModel.ts"

const KiB = 1024
const steps = 60
/** Runs that once found a fault. */
const kept = [22, 104, 111, 355, 722]
const seeds = process.env.RIVET_SEEDS?.split(",").map(Number) ?? [
  ...kept,
  ...Array.from({ length: 40 }, (_, i) => i + 1)
]

type Chance = ReturnType<typeof chanceOf>

/** One step of the run, by chance. */
const step = Effect.fnUntraced(function* (world: World, chance: Chance) {
  const exchange = chance.pick(world.exchanges)
  const socket = chance.pick(world.sockets)
  const stream = chance.pick(world.open)
  const length = chance.pick([0, 1, 100, 64 * KiB, 100 * KiB, 300 * KiB, 700 * KiB]) ?? 0
  switch (chance.below(24)) {
    case 0:
    case 1:
      if (world.hosted) yield* world.openExchange(chance.next() < 0.5, Math.min(length, 64 * KiB))
      return
    case 2:
    case 3:
      if (world.hosted) yield* world.openSocket(chance.next() < 0.7)
      return
    case 4:
    case 5:
      if (exchange?.uploading === true) yield* world.upload(exchange, Math.min(length, 64 * KiB), chance.next() < 0.5)
      return
    case 6:
    case 7:
    case 8:
      if (exchange?.runnerHas === true && exchange.answering !== "done") {
        yield* world.answer(exchange, length, chance.next() < 0.4)
      }
      return
    case 9:
    case 10:
    case 11:
      if (socket?.accepted === true && !socket.asleep)
        yield* world.sayUp(socket, length, length > KiB ? 1 : (chance.pick([1, 30]) ?? 1))
      return
    case 12:
    case 13:
    case 14:
      if (socket?.accepted === true) {
        yield* world.sayDown(socket, `${socket.down.length}:`.repeat(1 + chance.below(chance.pick([10, 50_000]) ?? 1)))
      }
      return
    case 15:
      if (socket?.accepted === true && !socket.asleep) yield* world.acknowledge(socket)
      return
    case 16:
    case 17:
      if (stream !== undefined) yield* world.grant(stream, chance.pick([1, 1000, 64 * KiB, 512 * KiB]) ?? 0)
      return
    case 18:
      if (stream !== undefined && chance.next() < 0.5) yield* world.giveUp(stream)
      return
    case 19:
      if (!world.connected) yield* world.connect()
      else if (chance.next() < 0.6) yield* world.cut()
      return
    case 20:
      if (world.hosted) yield* world.endActor()
      else yield* world.startActor()
      return
    case 21:
      if (socket?.asleep === true && world.hosted) yield* world.wake(socket)
      else yield* world.pass(chance.pick([100, 3_200]) ?? 0)
      return
    case 22:
      if (world.connected) world.goDeaf()
      // Nobody comes back in time.
      else if (chance.next() < 0.3) yield* world.pass(limits.runnerLostMs)
      return
    case 23:
      if (chance.next() < 0.3) yield* world.startActor(true)
      return
    default:
      throw new Error("no such step")
  }
})

/** Whatever is still open is brought to its end, with everything granted. */
const finish = Effect.fnUntraced(function* (world: World) {
  yield* world.cut()
  yield* world.connect()
  yield* world.startActor()
  for (let round = 0; round < 3; round++) {
    for (const stream of world.open) yield* world.grant(stream, 8 * 1024 * KiB)
    for (const socket of world.sockets) if (socket.asleep) yield* world.wake(socket)
    for (const exchange of world.exchanges) {
      if (exchange.uploading) yield* world.upload(exchange, 1, true)
      if (exchange.runnerHas && exchange.answering !== "done") yield* world.answer(exchange, 1, true)
    }
  }
  world.check(true)
  for (const stream of world.open) yield* world.giveUp(stream)
  // The echo of a close may come for as long; then nothing is left.
  yield* world.pass(limits.halfClosedMs + limits.tombstoneMs + 2_000)
})

const gauge = (metric: Metric.Metric<number, Metric.GaugeState<number>>) =>
  Effect.map(Metric.value(metric), ({ value }) => value)

const run = Effect.fnUntraced(function* (twin: ControlTwin, seed: number, version: number) {
  const chance = chanceOf(seed)
  const world = new World(twin, yield* rivetGateway, version)
  const telling = Effect.gen(function* () {
    yield* world.connect()
    for (let i = 0; i < steps; i++) {
      yield* step(world, chance)
      world.check(false)
    }
    yield* finish(world)
  })
  yield* Effect.catchDefect(telling, (defect) =>
    Effect.die(new Error(`${String(defect)}\nafter\n${world.log.slice(-40).join("\n")}`))
  )
  const { Closing, HalfClosed, Open } = yield* RouteStore.use((routes) => routes.counts)
  const { openStreams } = yield* Hub.use((hub) => hub.state)
  assert.deepStrictEqual(
    { Closing, HalfClosed, Open, openStreams },
    { Closing: 0, HalfClosed: 0, Open: 0, openStreams: 0 }
  )
  assert.strictEqual(yield* gauge(HubMetrics.heldBytesBy.requests), 0)
  assert.strictEqual(yield* gauge(HubMetrics.heldBytesBy.answers), 0)
  assert.strictEqual(yield* gauge(HubMetrics.lastingSockets), 0)
})

describe.each([3, 7])("version %i: whatever comes between,", (version) => {
  it.effect(
    `what one side says the other hears, in order and once, and nothing is left (${seeds.length} runs)`,
    () =>
      Effect.forEach(
        seeds,
        (seed) =>
          Effect.gen(function* () {
            const twin = new ControlTwin()
            const exit = yield* Effect.exit(
              Effect.scoped(run(twin, seed, version)).pipe(Effect.provide(rivetHub(twin)))
            )
            if (Exit.isFailure(exit)) throw new Error(`RIVET_SEEDS=${seed}: ${Cause.pretty(exit.cause)}`)
          }),
        { discard: true }
      ),
    120_000
  )
})
