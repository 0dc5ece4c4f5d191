/** Many runners in one process, each with a name of its own, who are connected and do nothing. Arguments: the hub's URL and their number. */
import { Context, Effect, Layer, Logger } from "effect"
import * as Runner from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import { layerDialer } from "../../src/socket/WsSocket.ts"

const [hubUrl = "", count = "0"] = process.argv.slice(2)

const silent = Layer.succeed(RunnerApp, { request: () => Effect.never, webSocket: () => Effect.never })

const connect = Effect.fnUntraced(function* (name: string) {
  const runner = Runner.layer({ hubUrl, name, drain: 0 }).pipe(Layer.provide([silent, layerDialer]))
  const services = yield* Layer.build(Layer.fresh(runner))
  yield* Context.get(services, Runner.Runner).connected
})

const program = Effect.gen(function* () {
  const names = Array.from({ length: Number(count) }, (_, i) => `idle-${i}`)
  yield* Effect.forEach(names, connect, { concurrency: 32, discard: true })
  process.stdout.write("connected\n")
  return yield* Effect.never
})

await Effect.runPromise(Effect.provide(Effect.scoped(program), Logger.layer([])))
