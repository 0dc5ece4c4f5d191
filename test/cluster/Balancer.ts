/** The smallest load balancer: passes connections on in turn to those processes whose readiness is 200, and asks every now and then. */
import { createServer, connect as netConnect, type Socket } from "node:net"
import { Effect } from "effect"
import * as Processes from "../journey/Processes.ts"
import { join, listen } from "../socket/Loopback.ts"
import { ready } from "./Cluster.ts"

const everyMs = 500

/** Balances over what `processes` holds, which may change. */
export const startBalancer = Effect.fnUntraced(function* (processes: ReadonlyArray<Processes.Serving>) {
  const fit = new Set<number>()
  let turn = 0
  const sockets = new Set<Socket>()
  const look = Effect.suspend(() =>
    Effect.forEach(
      processes,
      ({ adminPort, port }) =>
        Effect.match(ready(adminPort), { onFailure: () => fit.delete(port), onSuccess: () => fit.add(port) }),
      { concurrency: "unbounded", discard: true }
    )
  )
  const next = (): number | undefined => {
    const ports = processes.map(({ port }) => port).filter((port) => fit.has(port))
    return ports[turn++ % ports.length]
  }
  const server = createServer((near) => {
    const port = next()
    if (port === undefined) return void near.destroy()
    const far = netConnect(port, "127.0.0.1")
    join(near, far, sockets)
  })
  yield* look
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(everyMs), look)))
  const port = yield* listen(server, () => {
    for (const socket of sockets) socket.destroy()
  })
  return {
    port,
    /** Waits until so many processes are given connections. */
    serves: (count: number) =>
      Processes.within(
        10_000,
        Effect.suspend(() => (fit.size === count ? Effect.void : Effect.fail(new Error(`${fit.size} are ready`))))
      )
  }
})
