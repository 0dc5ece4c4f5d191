/** The ways from a visitor to the app: none at all, ours, and those of others (`Peers.ts`). A way that stands has its processes and its place. */
import { Effect, type Scope } from "effect"
import { startNatsServer } from "../bus/NatsServer.ts"
import * as Peers from "./Peers.ts"
import * as Processes from "./Processes.ts"

/** Where visitors go, and the Host that chooses the runner. */
export interface Place {
  readonly port: number
  readonly host: string
}

/** A way that stands. */
export interface Standing {
  readonly place: Place
  /** All that stands between visitor and app; with the app in it where that has no process of its own. */
  readonly tunnel: ReadonlyArray<Processes.Running>
  /** Where further runners may dial, if it is ours. */
  readonly hubPort?: number
}

/** A column of the tables. */
export interface Way {
  readonly name: string
  readonly start: (appPort: number, options: Processes.NodeOptions) => Effect.Effect<Standing, Error, Scope.Scope>
}

const ours = { host: `${Processes.runnerName}.localhost` }

const onOneProcess = (
  runner: (appPort: number, hubPort: number, options: Processes.NodeOptions) => ReturnType<typeof Processes.startExpose>
): Way["start"] =>
  Effect.fnUntraced(function* (appPort, options) {
    const hub = yield* Processes.startServe("gateway and hub", options)
    const tunnel = [hub, yield* runner(appPort, hub.port, options)]
    return { place: { ...ours, port: hub.port }, tunnel, hubPort: hub.port }
  })

const overNats = (
  runner: (appPort: number, hubPort: number, options: Processes.NodeOptions) => ReturnType<typeof Processes.startExpose>
): Way["start"] =>
  Effect.fnUntraced(function* (appPort, options) {
    const nats = yield* startNatsServer()
    const gateway = yield* Processes.startServe("gateway", options, nats.url)
    const hub = yield* Processes.startServe("hub", options, nats.url)
    const server = { label: "nats-server", pid: nats.pid, stop: () => Effect.runPromise(nats.kill) }
    const tunnel = [gateway, hub, yield* runner(appPort, hub.port, options), server]
    return { place: { ...ours, port: gateway.port }, tunnel, hubPort: hub.port }
  })

const embedded = (_: number, hubPort: number, options: Processes.NodeOptions) =>
  Processes.startEmbedded(hubPort, options)

/** What every other way is a ratio to. */
export const direct: Way = {
  name: "direct",
  start: (appPort) => Effect.succeed({ place: { port: appPort, host: "app" }, tunnel: [] })
}

const peer = (name: string, start: (appPort: number) => Effect.Effect<Standing, Error, Scope.Scope>): Way => ({
  name,
  start
})

/** All of them, in the order of the columns. */
export const ways: ReadonlyArray<Way> = [
  direct,
  { name: "local port", start: onOneProcess(Processes.startExpose) },
  { name: "in process", start: onOneProcess(embedded) },
  { name: "NATS local port", start: overNats(Processes.startExpose) },
  { name: "NATS in process", start: overNats(embedded) },
  peer("nginx", Peers.nginx),
  peer("nginx twice", Peers.nginxTwice),
  peer("ssh -R", Peers.ssh),
  peer("localtunnel", () =>
    Effect.fail(new Peers.NotInstalled({ message: "not installed: neither its client nor a server for it is kept up" }))
  )
]
