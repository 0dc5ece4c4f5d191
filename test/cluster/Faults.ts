/** What befalls a cluster, one after the other, while visitors come at a steady pace; and what became of them. */
import { Effect, type Scope } from "effect"
import { type NatsServer, startNatsServer } from "../bus/NatsServer.ts"
import type { CommandProcess } from "../cli/CommandProcess.ts"
import * as Processes from "../journey/Processes.ts"
import { atRest, expose, ready } from "./Cluster.ts"
import { startNatsRelay } from "./NatsRelay.ts"
import { startNumberedApp } from "./NumberedApp.ts"
import { tally, type Visit, Visitors } from "./Visitors.ts"

/** How long each stage lasts. */
export interface Pace {
  readonly everyMs: number
  /** Between two faults: what is seen of the recovery. */
  readonly settledMs: number
  /** From a kill to the restart. */
  readonly awayMs: number
  readonly partitionMs: number
  readonly stoppedMs: number
  /** How often the whole list is gone through. */
  readonly rounds: number
}

/** A fault: `befall` returns when it is over and all that was broken is whole again, as far as whoever runs the cluster can tell. */
interface Fault {
  readonly name: string
  readonly befall: Effect.Effect<void, Error, Scope.Scope>
}

/** What was seen of a fault. */
export interface Outcome {
  readonly fault: string
  readonly visits: ReadonlyArray<Visit>
  /** From its end to the beginning of the last request that failed. */
  readonly recoveredMs: number
  /** When it was over. */
  readonly overMs: number
  readonly lastedMs: number
}

/** The slowest recovery that is accepted, for requests that begin after it. */
export const recoveryMsMax = 2_000

/** Beyond what a visit takes by itself. Nothing waits longer than this for anything. */
const deadlineMs = 30_000

const names = ["amber", "birch", "cedar"]

const kill = (process: CommandProcess) =>
  Effect.andThen(
    Effect.sync(() => void process.child.kill("SIGKILL")),
    process.ended
  )

/** Three processes on one NATS server, the first of them over a relay; six runners, two of each name. */
const startPlace = Effect.gen(function* () {
  const app = yield* startNumberedApp
  let nats: NatsServer = yield* startNatsServer()
  const relay = yield* startNatsRelay(nats.port)
  const servers = [`nats://127.0.0.1:${relay.port}`, nats.url, nats.url]
  const serving = yield* Effect.forEach(servers, (server) => Processes.serve(0, server), { concurrency: 3 })
  const ports = serving.map(({ port }) => port)
  const runners = yield* Effect.forEach([...names, ...names], (name) => expose(app.port, ports, name), {
    concurrency: 6
  })

  const restart = Effect.fnUntraced(function* (index: number) {
    const { port } = serving[index] as Processes.Serving
    serving[index] = yield* Processes.serve(port, servers[index] as string)
    yield* Processes.within(10_000, ready((serving[index] as Processes.Serving).adminPort))
  })
  const restartNats = Effect.gen(function* () {
    nats = yield* startNatsServer({ port: nats.port })
  })
  return {
    app,
    ports,
    serving,
    relay,
    restart,
    restartNats,
    killNats: Effect.suspend(() => nats.kill),
    /** Streams that a process holds as the hub of its runners, and as the gateway of its visitors. */
    hubOf: (process: Processes.Serving) => Processes.metric(process.adminPort, "wayleave_hub_sessions"),
    restartRunner: Effect.fnUntraced(function* (index: number) {
      yield* kill(runners[index] as CommandProcess)
      return Effect.gen(function* () {
        runners[index] = yield* expose(app.port, ports, names[index % names.length] as string)
      })
    })
  }
})

type Place = Effect.Success<typeof startPlace>

/** The process with most runners, and, as the gateway, another one: its visitors are what is lost with it. */
const byRunners = (place: Place) =>
  Effect.map(
    Effect.forEach([0, 1, 2], (index) =>
      Effect.map(place.hubOf(place.serving[index] as Processes.Serving), (runners) => ({ index, runners }))
    ),
    (all) => all.sort((one, other) => other.runners - one.runners).map(({ index }) => index)
  )

const faultsOf = (place: Place, pace: Pace): ReadonlyArray<Fault> => {
  const killed = (which: (order: ReadonlyArray<number>) => number | undefined) =>
    Effect.gen(function* () {
      const index = which(yield* byRunners(place)) as number
      yield* kill(place.serving[index] as Processes.Serving)
      yield* Effect.sleep(pace.awayMs)
      yield* place.restart(index)
    })
  return [
    { name: "a hub is killed (kill -9) and started again", befall: killed((order) => order[0]) },
    { name: "a gateway is killed (kill -9) and started again", befall: killed((order) => order.at(-1)) },
    {
      name: "a runner is killed (kill -9) and started again",
      befall: Effect.gen(function* () {
        const restart = yield* place.restartRunner(0)
        yield* Effect.sleep(pace.awayMs)
        yield* restart
      })
    },
    {
      name: "the NATS server is killed (kill -9) and started again",
      befall: place.killNats.pipe(Effect.andThen(Effect.sleep(pace.awayMs)), Effect.andThen(place.restartNats))
    },
    {
      name: `a process is cut off from NATS for ${pace.partitionMs / 1000} s: bytes are swallowed`,
      befall: place.relay.swallow.pipe(Effect.andThen(Effect.sleep(pace.partitionMs)), Effect.andThen(place.relay.heal))
    },
    {
      name: `a process is stopped (SIGSTOP) for ${pace.stoppedMs / 1000} s`,
      befall: Effect.gen(function* () {
        const [index] = yield* byRunners(place)
        const process = place.serving[index as number] as Processes.Serving
        yield* process.signal("SIGSTOP")
        yield* Effect.sleep(pace.stoppedMs)
        yield* process.signal("SIGCONT")
      })
    }
  ]
}

/** Runs all of it. What it returns is judged by the test. */
export const runFaults = Effect.fnUntraced(function* (pace: Pace) {
  const place = yield* startPlace
  const visitors = new Visitors({ ports: place.ports, names, everyMs: pace.everyMs, deadlineMs })
  const stop = yield* visitors.start
  /** Those that began before then have ended: what befalls next is not counted twice. */
  const past = (ms: number) =>
    Processes.within(
      deadlineMs * 2,
      Effect.suspend(() => (visitors.underWaySince(ms) ? Effect.fail(new Error("visits are under way")) : Effect.void))
    )
  const beginMs = performance.now()
  yield* Effect.sleep(pace.settledMs)
  const before = visitors.endedWithin(beginMs, performance.now())

  const outcomes: Array<Outcome> = []
  for (const { befall, name } of Array.from({ length: pace.rounds }, () => faultsOf(place, pace)).flat()) {
    const fromMs = performance.now()
    yield* befall
    const overMs = performance.now()
    yield* Effect.sleep(recoveryMsMax + pace.settledMs)
    yield* past(overMs)
    const visits = visitors.endedWithin(fromMs, performance.now())
    const failed = visits.filter(({ result, startedMs }) => result !== "ok" && startedMs > overMs)
    outcomes.push({
      fault: name,
      visits,
      overMs,
      recoveredMs: Math.max(0, ...failed.map(({ startedMs }) => startedMs - overMs)),
      lastedMs: overMs - fromMs
    })
  }
  yield* stop
  yield* past(performance.now())
  // A gateway that was killed cannot say so: its routes go with their lease.
  const [restMs] = yield* Processes.within(
    45_000,
    Effect.andThen(
      Effect.forEach(place.serving, ({ adminPort }) => atRest(adminPort), { discard: true, concurrency: 3 }),
      Effect.suspend(() => (place.app.open() === 0 ? Effect.void : Effect.fail(new Error("the app has open streams"))))
    )
  )
  const twice = [...place.app.seen].filter(([, times]) => times > 1).map(([id]) => `${id} came to the app twice`)
  return { before, outcomes, violations: [...visitors.violations, ...place.app.faults, ...twice], restMs }
})

/** The rows of the table, one for each fault: all rounds together, and of what took longest the longest. */
export const rowsOf = (outcomes: ReadonlyArray<Outcome>): ReadonlyArray<ReadonlyArray<string>> =>
  [...new Set(outcomes.map(({ fault }) => fault))].map((name) => {
    const rounds = outcomes.filter(({ fault }) => fault === name)
    const of = (...kinds: ReadonlyArray<Visit["kind"]>) =>
      rounds.flatMap(({ visits }) => visits.filter(({ kind }) => kinds.includes(kind)))
    const longest = Math.max(0, ...of("request").map(({ endedMs, startedMs }) => endedMs - startedMs))
    const recovered = Math.max(...rounds.map(({ recoveredMs }) => recoveredMs))
    return [
      name,
      rounds.map(({ lastedMs }) => (lastedMs / 1000).toFixed(1)).join(", "),
      tally(of("request")),
      tally(of("events", "socket")),
      `${(longest / 1000).toFixed(1)} s`,
      recovered === 0 ? "at once" : `${(recovered / 1000).toFixed(2)} s`
    ]
  })

/** The head of that table. */
export const headings = [
  "fault",
  "lasted",
  "requests",
  "event streams and WebSockets",
  "longest request",
  "whole again"
]
