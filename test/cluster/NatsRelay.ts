/** A TCP relay before a NATS server whose wire can go dead: bytes are swallowed, ends are not told, and nobody learns of it but by waiting. */
import { createServer, connect as netConnect, type Socket } from "node:net"
import { Effect } from "effect"
import { listen } from "../socket/Loopback.ts"

/** Relays to a port for the life of the scope. Healing cuts what has lost bytes: it could not go on in any case. */
export const startNatsRelay = Effect.fnUntraced(function* (targetPort: number) {
  const sockets = new Set<Socket>()
  let swallowing = false
  const pass = (from: Socket, to: Socket) => {
    sockets.add(from)
    from.setNoDelay(true)
    from.on("error", () => {})
    from.on("data", (data) => {
      if (!swallowing) to.write(data)
    })
    from.on("close", () => {
      if (!swallowing) to.destroy()
      // What closed meanwhile is kept, so that its other end is cut with the rest.
      if (!swallowing) sockets.delete(from)
    })
  }
  const server = createServer((near) => {
    const far = netConnect(targetPort, "127.0.0.1")
    pass(near, far)
    pass(far, near)
  })
  const port = yield* listen(server, () => {
    for (const socket of sockets) socket.destroy()
  })
  return {
    port,
    /** The wire is dead. */
    swallow: Effect.sync(() => {
      swallowing = true
    }),
    /** The wire carries again; whoever was on it dials anew. */
    heal: Effect.sync(() => {
      swallowing = false
      for (const socket of sockets) socket.resetAndDestroy()
      sockets.clear()
    })
  }
})
