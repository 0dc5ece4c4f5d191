/**
 * What a runner says on WebSockets that its hub does not know: after a restart of the hub the published client goes on with all it had, and its gateways
 * have had none of them woken here yet. Held in order while they are asked, it follows once the WebSocket is attached to this very runner. What is denied,
 * or never woken, goes to the Relay all the same, which refuses and counts it.
 *
 * Plain state of one session. Nothing is admitted here: what follows, follows as a stream's answers do. Next: `Verification.ts`, which asks.
 */
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { absurd, type ResponseFrame, weightBytes } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { RouteMap } from "../../tunnel/RouteMap.ts"
import type { HeldBytes } from "./Gathering.ts"
import { compact } from "./Pieces.ts"

/** One frame of a runner, and the route it claims. */
export interface Stray {
  readonly route: RouteKey
  readonly frame: ResponseFrame
}

interface Held {
  readonly route: RouteKey
  readonly frames: Array<ResponseFrame>
  readonly untilMs: number
  bytes: number
  /** More was said than is kept: its runner and its visitor do not have the same of it any more. */
  overflowed: boolean
}

/** What is said on a WebSocket that both sides have agreed on. All else is said of streams that do not outlive their hub. */
const isOfOpenSocket = (frame: ResponseFrame): boolean => {
  switch (frame._tag) {
    case "WebSocketMessage":
    case "WebSocketMessageAck":
    case "WebSocketClose":
      return true
    case "Informational":
    case "ResponseStart":
    case "ResponseChunk":
    case "ResponseTrailers":
    case "ResponseAbort":
    case "WebSocketOpen":
    case "Credit":
      return false
  }
  return absurd(frame)
}

/** Of one session. */
export class Strays {
  /** Counts against the same bound as the answers that gateways do not take yet. */
  private readonly answers: HeldBytes
  private readonly onRefused: () => void
  private readonly held = new RouteMap<Held>()
  private unasked: Array<RouteKey> = []
  private refused: Array<Stray> = []
  private refusedBytes = 0

  constructor(answers: HeldBytes, onRefused: () => void) {
    this.answers = answers
    this.onRefused = onRefused
  }

  /** Keeps a frame of a route that nobody holds, and its route to be asked for. `false`: it is not of a kind to be asked for. */
  hold(route: RouteKey, frame: ResponseFrame, nowMs: number): boolean {
    if (!isOfOpenSocket(frame)) return false
    if (this.held.get(route) === undefined) {
      if (this.held.size >= limits.sessionRoutesAskedMax) return false
      const untilMs = nowMs + limits.hibernationWakeMs
      this.held.set(route, { route, frames: [], untilMs, bytes: 0, overflowed: false })
      this.unasked.push(route)
    }
    return this.append(route, frame)
  }

  /** Keeps a frame behind others of its route. `false`: there are none, or no more can be kept. */
  append(route: RouteKey, frame: ResponseFrame): boolean {
    const held = this.held.get(route)
    if (held === undefined) return false
    const bytes = weightBytes(frame)
    held.overflowed ||=
      held.frames.length >= limits.framesHeldMax ||
      held.bytes + bytes > limits.rivetStreamBytesMax ||
      this.answers.bytes + bytes > limits.rivetSessionBytesMax
    if (held.overflowed) return false
    held.frames.push(compact(frame))
    held.bytes += bytes
    this.answers.bytes += bytes
    return true
  }

  /** Routes that are to be asked for, each once. */
  takeUnasked(): ReadonlyArray<RouteKey> {
    const { unasked } = this
    if (unasked.length > 0) this.unasked = []
    return unasked
  }

  /** The WebSocket is this runner's: what it said meanwhile. Undefined where that is more than was kept. */
  claim(route: RouteKey): ReadonlyArray<ResponseFrame> | undefined {
    const held = this.held.delete(route)
    if (held === undefined) return []
    this.answers.bytes -= held.bytes
    return held.overflowed ? undefined : held.frames
  }

  /** It is not, or nobody can say. */
  refuse(route: RouteKey): void {
    const held = this.held.delete(route)
    if (held === undefined || held.frames.length === 0) return
    for (const frame of held.frames) this.refused.push({ route, frame })
    this.refusedBytes += held.bytes
    this.onRefused()
  }

  /** Refuses what has waited as long as a wake may take. */
  sweep(nowMs: number): void {
    for (const { route, untilMs } of this.held.values()) if (nowMs >= untilMs) this.refuse(route)
  }

  /** The session is over. */
  refuseAll(): void {
    this.sweep(Number.POSITIVE_INFINITY)
  }

  get hasRefused(): boolean {
    return this.refused.length > 0
  }

  /** What nobody asked to hear, for the Relay to judge. Until then it counts as kept. */
  takeRefused(): ReadonlyArray<Stray> {
    const { refused } = this
    if (refused.length > 0) this.refused = []
    this.answers.bytes -= this.refusedBytes
    this.refusedBytes = 0
    return refused
  }
}
