/** What a watcher sees of a runner's streams: `expose` draws its live view from it. Called synchronously on the way of a request: be quick, never throw. */
import { Context } from "effect"
import type { RouteKey } from "../tunnel/Envelope.ts"
import type { AbortCode } from "../tunnel/Frame.ts"

/** A stream that began. `id` counts up from 1 within one runner. */
export interface ObservedRequest {
  readonly id: number
  readonly route: RouteKey
  readonly kind: "request" | "webSocket"
  readonly method: string
  readonly target: string
  /** Wall-clock time. */
  readonly startedAtMs: number
}

/** How it ended. `abort` is set where the answer did not come in full; `status` is 101 for an accepted WebSocket, undefined where no head was sent. */
export interface ObservedEnd {
  readonly status: number | undefined
  readonly abort: { readonly code: AbortCode; readonly message: string } | undefined
  readonly durationMs: number
  /** Body bytes towards the app, and from it. */
  readonly bytesDown: number
  readonly bytesUp: number
}

/** What it is told. */
export interface Observer {
  readonly started: (request: ObservedRequest) => void
  readonly ended: (request: ObservedRequest, end: ObservedEnd) => void
}

const noop: Observer = { started: () => {}, ended: () => {} }

/** Nobody watches unless somebody is provided: `Effect.provideService(RunnerObserver, …)` or `Layer.succeed(RunnerObserver, …)`. */
export const RunnerObserver = Context.Reference<Observer>("wayleave/runner/RunnerObserver", {
  defaultValue: () => noop
})
