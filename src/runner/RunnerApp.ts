/**
 * The contract between a runner and what it serves: `TunnelHttpServer.ts` fulfils it with an Effect app, `LocalForward.ts` with a local port.
 *
 * Each call gets a fiber of its own, interrupted as soon as the visitor leaves, the hub resets the stream or the session is lost. One that
 * fails, or returns with its stream unanswered, is answered for: `app_failed`.
 */
import { Context, Data, type Effect } from "effect"
import type { AbortCode } from "../tunnel/Frame.ts"
import type { RequestStream } from "./RequestStream.ts"
import type { WebSocketStream } from "./WebSocketStream.ts"

/** The app cannot answer, or not completely. `message` reaches the visitor's error page. */
export class AppFailure extends Data.TaggedError("AppFailure")<{
  readonly code: AbortCode
  readonly message: string
}> {}

/** What a runner serves. */
export class RunnerApp extends Context.Service<
  RunnerApp,
  {
    /** Answers one request; done once the answer is. */
    readonly request: (stream: RequestStream) => Effect.Effect<void, AppFailure>
    /** Accepts or refuses one WebSocket and serves it; returning closes it, unless it was handed over. */
    readonly webSocket: (stream: WebSocketStream) => Effect.Effect<void, AppFailure>
  }
>()("wayleave/runner/RunnerApp") {}
