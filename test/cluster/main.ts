/**
 * `npm run cluster`: a whole cluster on this machine to play with. One NATS server, three `serve` processes, two runners of one name; what to try is
 * printed. It stays until Ctrl-C, and ends by process id all that it started.
 */
import { createServer } from "node:http"
import { Console, Data, Effect } from "effect"
import { runProcess, saying } from "../../src/cli/runProcess.ts"
import { startNatsServer } from "../bus/NatsServer.ts"
import type { CommandProcess } from "../cli/CommandProcess.ts"
import * as Processes from "../journey/Processes.ts"
import { listen } from "../socket/Loopback.ts"
import { expose } from "./Cluster.ts"

class ClusterFailed extends Data.TaggedError("ClusterFailed")<{ readonly message: string }> {}

/** The smallest app there is: it says which one it is. */
const startApp = Effect.fnUntraced(function* (name: string) {
  const server = createServer((request, response) => {
    request.resume()
    response.end(`hello from ${name}\n`)
  })
  return yield* listen(server)
})

/** Nothing of it is left when this returns. */
const end = ({ ended, signal }: CommandProcess) => Effect.asVoid(Effect.andThen(signal("SIGKILL"), ended))

/** Whoever is killed on purpose is missed aloud. */
const watch = (what: string, { child, ended }: CommandProcess) =>
  Effect.forkScoped(
    Effect.flatMap(ended, ({ code, signal }) =>
      Console.log(`process ${child.pid}, ${what}, has ended (${signal ?? `exit ${code}`})`)
    )
  )

const program = Effect.gen(function* () {
  const nats = yield* startNatsServer()
  const serving = yield* Effect.forEach([1, 2, 3], () => Processes.serve(0, nats.url), { concurrency: 3 })
  const ports = serving.map(({ port }) => port)
  const [one, two, three] = ports as [number, number, number]
  const apps = yield* Effect.forEach(["app 1", "app 2"], startApp)
  const [first, second] = yield* Effect.all(
    [expose(apps[0] as number, [one, two], "web"), expose(apps[1] as number, [three, two, one], "web")],
    { concurrency: 2 }
  )
  const [hub] = serving as [Processes.Serving, Processes.Serving, Processes.Serving]
  const pid = ({ child }: CommandProcess) => child.pid
  yield* Console.log(
    [
      "",
      `  NATS server  ${nats.url}    process ${nats.pid}`,
      ...serving.map((process, i) => {
        const admin = `http://127.0.0.1:${process.adminPort}`
        return `  serve ${i + 1}      http://127.0.0.1:${process.port}    process ${pid(process)}    health and metrics ${admin}`
      }),
      `  runner 1     web, for app 1, at serve 1 or 2    process ${pid(first)}`,
      `  runner 2     web, for app 2, at any of them     process ${pid(second)}`,
      "",
      "Any of the three answers, by either runner. In another terminal:",
      "",
      ...ports.map((port) => `  curl -H 'Host: web.localhost' http://127.0.0.1:${port}/`),
      "",
      "and then",
      "",
      `  kill ${pid(hub)}        # serve 1 drains: its runners go elsewhere first, nobody notices`,
      `  kill -9 ${pid(first)}     # runner 1 is gone: app 2 answers`,
      `  kill -STOP ${pid(serving[1] as CommandProcess)}  # serve 2 hangs; kill -CONT has it go on`,
      `  kill -9 ${nats.pid}     # no NATS: open streams end, requests wait 5 s for its return`,
      `  curl http://127.0.0.1:${(serving[2] as Processes.Serving).adminPort}/health/ready`,
      "",
      "Ctrl-C ends all of it",
      ""
    ].join("\n")
  )
  yield* Effect.addFinalizer(() => Effect.all([nats.kill, ...[...serving, first, second].map(end)], { discard: true }))
  for (const [i, process] of serving.entries()) yield* watch(`serve ${i + 1}`, process)
  for (const [i, process] of [first, second].entries()) yield* watch(`runner ${i + 1}`, process)
  return yield* Effect.never
}).pipe(Effect.mapError(({ message }) => new ClusterFailed({ message })))

runProcess(saying(Effect.scoped(program)))
