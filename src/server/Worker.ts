/**
 * One of several processes behind one port: a whole server, which does what its keeper ordered and speaks to people through it.
 *
 * It drains when it is told to, or by a signal, which Ctrl-C sends to it as well: whichever comes first. Node ends a worker at once whose keeper is no more,
 * and with it goes what it was connected to. Next: `Server.ts`, what it runs; `Workers.ts` is its keeper.
 */
import cluster from "node:cluster"
import { Effect, type FileSystem, Option, Schema } from "effect"
import * as PlainLog from "../telemetry/PlainLog.ts"
import * as Server from "./Server.ts"
import { decodeOrder, KeeperMessage, orderVariable, type WorkerMessage } from "./WorkerMessage.ts"

/** Whether this process was started by a keeper. Other programs fork by the same means. */
export const isWorker = (): boolean => cluster.isWorker && process.env[orderVariable] !== undefined

/** Says it to the keeper, and waits until it has left. */
const tell = (message: WorkerMessage) =>
  Effect.callback<void>((resume) => {
    if (process.send === undefined || !process.connected) return resume(Effect.void)
    process.send(message, () => resume(Effect.void))
  })

const drainWord = Effect.callback<void>((resume) => {
  const onMessage = (message: unknown) => {
    const known = Schema.decodeUnknownOption(KeeperMessage)(message)
    if (Option.isSome(known)) resume(Effect.void)
  }
  process.on("message", onMessage)
  return Effect.sync(() => void process.off("message", onMessage))
})

const serve = Effect.gen(function* () {
  const server = yield* Server.Server
  const { adminPort, adminUrl, port, url } = server
  yield* tell({ _tag: "Ready", url, port, adminUrl, adminPort })
  return yield* Effect.onInterrupt(server.ousted, () => server.drain)
})

/** Serves until it is told to drain; a failure is told to the keeper in `words`, who says it once. */
export const run = (
  words: (error: { readonly message: string }) => string
): Effect.Effect<void, never, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const { alone, config } = yield* decodeOrder(process.env[orderVariable] ?? "")
    const server = serve.pipe(
      Effect.provide(Server.layer(config, { alone, silent: true })),
      Effect.provide(PlainLog.layer({ json: config.json }))
    )
    yield* Effect.raceFirst(server, drainWord)
  }).pipe(
    Effect.catch((error) => tell({ _tag: "Failed", message: words(error) })),
    // A process that can still be spoken to does not end by itself.
    Effect.ensuring(Effect.sync(() => process.connected && process.disconnect()))
  )
