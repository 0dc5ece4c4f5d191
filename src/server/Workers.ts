/**
 * Several processes behind one port: this one is their keeper, and serves nobody itself. Each worker is a whole server, on a bus that all of them share:
 * NATS, the given one or `OwnNats.ts`. The port for visitors is shared by `node:cluster`, where the keeper accepts and hands each connection to the next
 * worker that is free; operators find each worker at a port of its own.
 *
 * What a worker writes is passed on in whole lines. One that dies is started again; the others go on meanwhile. Next: `Worker.ts`, what each of them does.
 */
import cluster, { type Worker } from "node:cluster"
import { once } from "node:events"
import type { Readable, Writable } from "node:stream"
import { Deferred, Effect, Option, Schema } from "effect"
import * as PlainLog from "../telemetry/PlainLog.ts"
import { WholeLines } from "../telemetry/WholeLines.ts"
import { limits } from "../tunnel/Limits.ts"
import { endOf, keepAlive } from "./KeptAlive.ts"
import * as OwnNats from "./OwnNats.ts"
import { actorsElsewhere, sayDraining, sayReady } from "./Server.ts"
import type { ServerConfig } from "./ServerConfig.ts"
import { encodeOrder, type KeeperMessage, type Order, orderVariable, WorkerMessage } from "./WorkerMessage.ts"

/** A worker could not begin: its own words, or how it ended without any. */
export class WorkerFailed extends Schema.TaggedError<WorkerFailed>()("WorkerFailed", { problem: Schema.String }) {
  override get message() {
    return this.problem
  }
}

/** Why there are no workers. */
export type WorkersError = WorkerFailed | OwnNats.NatsServerMissing | OwnNats.NatsServerFailed

/** Passes whole lines on, as fast as they are taken. A reader that has gone takes its lines with it, and holds nobody up. */
export const passOn = async (from: Readable, to: Writable): Promise<void> => {
  const lines = new WholeLines()
  const write = async (bytes: Uint8Array) => {
    if (bytes.length === 0 || to.write(bytes) || !to.writableNeedDrain) return
    await Promise.race([once(to, "drain"), once(to, "close")]).catch(() => {})
  }
  for await (const piece of from as AsyncIterable<Uint8Array>) await write(lines.add(piece))
  await write(lines.end())
}

type Ready = Extract<WorkerMessage, { readonly _tag: "Ready" }>

interface Forked {
  readonly worker: Worker
  readonly ready: Deferred.Deferred<Ready, WorkerFailed>
  readonly ended: Deferred.Deferred<string>
  /** All that it wrote was passed on. */
  readonly passed: Promise<unknown>
}

const passAllOn = ({ process: { stderr, stdout } }: Worker): Promise<unknown> => {
  const pairs = [
    [stdout, process.stdout],
    [stderr, process.stderr]
  ] as const
  return Promise.allSettled(pairs.map(([from, to]) => (from === null ? undefined : passOn(from, to))))
}

const listen = ({ ended, ready, worker }: Forked): void => {
  const child = worker.process
  const end = (how: string) => {
    Deferred.doneUnsafe(ready, Effect.fail(new WorkerFailed({ problem: `a worker could not begin: ${how}` })))
    Deferred.doneUnsafe(ended, Effect.succeed(how))
  }
  worker.on("message", (message: unknown) => {
    const known = Option.getOrUndefined(Schema.decodeUnknownOption(WorkerMessage)(message))
    switch (known?._tag) {
      case "Ready":
        Deferred.doneUnsafe(ready, Effect.succeed(known))
        return
      case "Failed":
        Deferred.doneUnsafe(ready, Effect.fail(new WorkerFailed({ problem: known.message })))
        return
      case undefined:
        return
    }
    return known satisfies never
  })
  worker.on("error", (error) => {
    if (child.pid === undefined) end(error.message)
  })
  worker.on("exit", (code, signal) => end(endOf(code, signal)))
}

const fork = (order: Order) =>
  Effect.acquireRelease(
    Effect.gen(function* () {
      const ready = yield* Deferred.make<Ready, WorkerFailed>()
      const ended = yield* Deferred.make<string>()
      const worker = cluster.fork({ [orderVariable]: encodeOrder(order) })
      const forked: Forked = { worker, ready, ended, passed: passAllOn(worker) }
      listen(forked)
      return forked
    }),
    ({ ended, passed, worker }) =>
      Effect.sync(() => worker.process.kill("SIGKILL")).pipe(
        Effect.andThen(Deferred.await(ended)),
        // Its last words, where somebody reads them.
        Effect.andThen(
          Effect.timeoutOption(
            Effect.promise(() => passed),
            limits.serverCloseMs
          )
        )
      )
  )

/** Tells it to drain, and waits for its end; it may have been told by a signal already. */
const drain = ({ ended, worker }: Forked) => {
  const word: typeof KeeperMessage.Type = { _tag: "Drain" }
  return Effect.sync(() => {
    if (worker.isConnected()) worker.send(word, () => {})
  }).pipe(Effect.andThen(Deferred.await(ended)), Effect.timeoutOption(limits.workerEndMs))
}

const keep = Effect.fnUntraced(function* (config: ServerConfig, alone: boolean) {
  const begun = yield* Effect.forEach(Array.from({ length: config.workers }), () =>
    Deferred.make<Ready, WorkerFailed>()
  )
  const saysDraining = yield* Effect.cached(sayDraining)
  let told = false
  let working = 0

  /** The same ports each time. A free one is shared for as long as a worker has it; then it is asked for by its number. */
  const orderOf = (first: Ready | undefined, index: number): Order => ({
    config: {
      ...config,
      port: first === undefined || working > 0 ? config.port : first.port,
      adminPort: first?.adminPort ?? (config.adminPort === 0 ? 0 : config.adminPort + index)
    },
    alone
  })

  const life = (index: number, mine: Deferred.Deferred<Ready, WorkerFailed>) =>
    Effect.gen(function* () {
      const first = (yield* Deferred.isDone(mine)) ? yield* Deferred.await(mine) : undefined
      const forked = yield* fork(orderOf(first, index))
      const ready = yield* Deferred.await(forked.ready)
      working++
      if (first !== undefined) yield* Effect.logInfo(`worker ${index} is back, process ${forked.worker.process.pid}`)
      yield* Deferred.succeed(mine, ready)
      return yield* Deferred.await(forked.ended).pipe(
        // Before all of them are there nobody was told of any.
        Effect.onInterrupt(() => (told ? Effect.andThen(saysDraining, drain(forked)) : Effect.void)),
        Effect.ensuring(
          Effect.sync(() => {
            working--
          })
        )
      )
    }).pipe(Effect.scoped)

  const kept = Effect.forEach(
    begun,
    (mine, index) => {
      const alive = keepAlive(`worker ${index}`, mine, life(index, mine))
      // What none of them can have is refused to the first, and said once.
      return index === 0 ? alive : Effect.andThen(Deferred.await(begun[0] ?? mine), alive)
    },
    { concurrency: "unbounded", discard: true }
  )
  const announce = Effect.gen(function* () {
    const all = yield* Effect.forEach(begun, (one) => Deferred.await(one))
    told = true
    const adminUrls = all.map(({ adminUrl }) => adminUrl)
    yield* sayReady(config, all[0]?.url ?? "", adminUrls, { adminUrls })
    return yield* Effect.never
  })
  return yield* Effect.raceFirst(kept, announce)
})

/** What all workers together would say once each. */
const sayActors = (alone: boolean) =>
  alone ? Effect.logInfo("workers take no Rivet runners: actors are controlled by one process") : actorsElsewhere

/** Serves until interrupted, which a first signal does; the workers drain then, and end before their bus does. */
export const run = (config: ServerConfig): Effect.Effect<void, WorkersError> =>
  Effect.gen(function* () {
    cluster.schedulingPolicy = cluster.SCHED_RR
    cluster.setupPrimary({ stdio: ["ignore", "pipe", "pipe", "ipc"] })
    // Each worker may wait for the same reader.
    for (const stream of [process.stdout, process.stderr]) stream.setMaxListeners(0)
    const alone = Option.isNone(config.nats)
    const nats = alone ? yield* OwnNats.make(process.env.PATH ?? "") : config.nats.value
    yield* sayActors(alone)
    return yield* keep({ ...config, nats: Option.some(nats) }, alone)
  }).pipe(Effect.scoped, Effect.provide(PlainLog.layer({ json: config.json })))
