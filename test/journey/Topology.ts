/** Where journeys take place: one process that is hub and gateway, or two processes that share a NATS server, the runner at one and the visitor at the other. */
import { Effect, type Scope } from "effect"
import { startNatsServer } from "../bus/NatsServer.ts"
import * as Processes from "./Processes.ts"

/** A running tunnel without runners. */
export interface Place {
  /** Where visitors come in. */
  readonly gateway: Processes.Serving
  /** Where runners connect; the same process where there is but one. */
  readonly hub: Processes.Serving
  /** Starts another in the hub's place, on its port. */
  readonly restartHub: Effect.Effect<Processes.Serving, Error, Scope.Scope>
}

/** A way to set up a tunnel, and how much of the heavy journeys it is put through. */
export interface Topology {
  readonly name: string
  readonly start: Effect.Effect<Place, Error, Scope.Scope>
  /** Of the large download, in MiB. */
  readonly downloadMiB: number
  /** Requests that are given up at random points; a tenth as many WebSockets. */
  readonly aborted: number
}

/** One process is the whole of it: the bus is memory. */
export const oneProcess: Topology = {
  name: "in one process",
  start: Effect.gen(function* () {
    const hub = yield* Processes.serve()
    return { gateway: hub, hub, restartHub: Processes.serve(hub.port) }
  }),
  downloadMiB: 1024,
  aborted: 10_000
}

/** Two processes over NATS. The same journeys; the two heaviest are shorter, for they judge what is left over and not how long it takes. */
export const overNats: Topology = {
  name: "over NATS, visitors at one process and runners at another",
  start: Effect.gen(function* () {
    const { url } = yield* startNatsServer()
    const [hub, gateway] = yield* Effect.all([Processes.serve(0, url), Processes.serve(0, url)], { concurrency: 2 })
    return { gateway, hub, restartHub: Processes.serve(hub.port, url) }
  }),
  downloadMiB: 128,
  aborted: 2_500
}
