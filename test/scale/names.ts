/**
 * `npm run scale:names`: what a name costs on NATS. Three servers as one cluster; one client subscribes to names by the hundred thousand at the
 * first, and the others, who have to know that somebody listens there, are looked at as well. `-- --names N`.
 */
import { cpus } from "node:os"
import { parseArgs } from "node:util"
import { connect } from "@nats-io/transport-node"
import { Effect } from "effect"
import * as Subject from "../../src/bus/Subject.ts"
import { startNatsCluster } from "../bus/NatsServer.ts"
import { tableOf } from "../cluster/Table.ts"
import { residentBytes } from "../journey/Processes.ts"

const { values: args } = parseArgs({ options: { names: { type: "string", default: "100000" } } })
const names = Number(args.names)
const layout = "0".repeat(8)

const say = (line: string) => process.stdout.write(`${line}\n`)

const client = (url: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => connect({ servers: url.replace("nats://", "") })),
    (connection) => Effect.promise(async () => connection.close())
  )

const program = Effect.gen(function* () {
  const nodes = yield* startNatsCluster
  const near = yield* client(nodes[0]?.url as string)
  const far = yield* client(nodes[1]?.url as string)
  const resident = () => nodes.map(({ pid }) => residentBytes(pid))
  say(`${cpus()[0]?.model.trim()} × ${cpus().length}; three servers, ${names} names with one session each\n`)

  const subscribe = Effect.fnUntraced(function* (kind: "name" | "session") {
    const before = resident()
    const start = performance.now()
    for (let i = 0; i < names; i++) {
      const subject = kind === "name" ? Subject.ofName("default", `runner-${i}`) : Subject.ofSession("default", `${i}`)
      const wired = Subject.onServer(subject, kind === "name" ? "one" : "each", layout)
      near.subscribe(wired, { ...(kind === "name" ? { queue: "wayleave" } : {}), callback: () => {} })
      if (i % 10_000 === 0) yield* Effect.promise(async () => near.flush())
    }
    yield* Effect.promise(async () => near.flush())
    const tookMs = performance.now() - start
    // Known at another server once a question from there finds somebody.
    const arrived = Effect.callback<void>((resume) => {
      const subscription = near.subscribe(`last.${kind}`, {
        callback: () => {
          subscription.unsubscribe()
          resume(Effect.void)
        }
      })
    })
    const asking = yield* Effect.forkChild(
      Effect.forever(
        Effect.andThen(
          Effect.sleep(5),
          Effect.sync(() => far.publish(`last.${kind}`))
        )
      )
    )
    yield* arrived
    const everywhereMs = performance.now() - start
    asking.interruptUnsafe()
    yield* Effect.sleep("2 seconds")
    const after = resident()
    const each = after.map((bytes, i) => (bytes - (before[i] as number)) / names)
    return [
      kind === "name" ? "a name, in a queue group" : "a session",
      `${Math.round(each[0] as number)} bytes`,
      `${Math.round(((each[1] as number) + (each[2] as number)) / 2)} bytes`,
      `${Math.round((names / tookMs) * 1000).toLocaleString("en-US")}`,
      `${Math.round((names / everywhereMs) * 1000).toLocaleString("en-US")}`
    ]
  })
  const rows = [yield* subscribe("name"), yield* subscribe("session")]
  say(tableOf(["subscription", "its own server", "each other server", "a second", "a second, known everywhere"], rows))
})

void Effect.runPromise(Effect.scoped(program)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`)
  process.exitCode = 1
})
