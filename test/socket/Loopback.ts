/** Servers of tests: on a port of the loopback interface that the system chooses, for the life of the scope. */
import type { AddressInfo, Server, Socket } from "node:net"
import { Effect } from "effect"

/** Listens until the scope closes; returns the port. `cut` ends what its connections are not closed for by the server itself. */
export const listen = (server: Server & { readonly closeAllConnections?: () => void }, cut: () => void = () => {}) =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as AddressInfo).port)))
    }),
    () =>
      Effect.callback<void>((resume) => {
        cut()
        server.close(() => resume(Effect.void))
        server.closeAllConnections?.()
      })
  )

/** Passes bytes on both ways until one side ends; both are in `open` for as long as they are. */
export const join = (near: Socket, far: Socket, open: Set<Socket>): void => {
  for (const [one, other] of [
    [near, far],
    [far, near]
  ] as const) {
    open.add(one)
    one.setNoDelay(true)
    one.on("error", () => {})
    one.on("close", () => {
      open.delete(one)
      other.destroy()
    })
    one.pipe(other)
  }
}
