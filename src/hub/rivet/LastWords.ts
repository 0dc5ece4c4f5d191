/** What is said for a Rivet runner where it says no more: how its streams end for whoever waits for them. */
import type { AbortCode, ResponseFrame } from "../../tunnel/Frame.ts"
import type { RivetStream } from "./RivetStream.ts"

/** The answer will not come, or not completely. */
export const abortWith = (code: AbortCode, message: string): ResponseFrame => ({ _tag: "ResponseAbort", code, message })

/** Its session is over. */
export const sessionLost = abortWith("session_lost", "the runner went away and did not come back")

/** The same, of a request that it never had: another may be asked. */
export const neverSeen = abortWith("no_runner", "the runner left before it saw the request")

/** The visitor of an open WebSocket hears of a close; whoever still waits for an answer, that none will come. */
export const actorStopped = ({ accepted, kind }: RivetStream): ResponseFrame =>
  kind === "websocket" && accepted
    ? { _tag: "WebSocketClose", code: 1000, reason: "actor.stopped", hibernate: false }
    : abortWith("actor_stopped", "the actor stopped")
