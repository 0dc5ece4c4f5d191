/**
 * One WebSocket through the sleep of its actor: when to wake it, how long to try, and when an app that acknowledges nothing is given up.
 *
 * Decides only; what is kept meanwhile is `VisitorMessages.ts`, what a wake and an attachment are on the bus is `StreamLink.ts`, and `SocketStream.ts`
 * carries out. `docs/internals/hibernation.md` tells the whole story.
 */
import { limits } from "../tunnel/Limits.ts"
import type { GatewayErrorCode } from "./GatewayError.ts"
import type { Refusal } from "./RivetError.ts"
import type { VisitorMessages } from "./VisitorMessages.ts"

/**
 * `Awake`: a hub holds the other end. `Asleep`: nobody does, and nobody need. `Asked`: a wake was sent, no hub has answered. `Starting`: a hub
 * has it. `Waiting`: it was refused, and is sent again later.
 */
type Phase = "Awake" | "Asleep" | "Asked" | "Starting" | "Waiting"

/** What carries out the decisions. */
export interface HibernationOwner {
  readonly nowMs: () => number
  /** Between 0 and 1, and another for most sockets: what fell asleep together is not to wake all at once. */
  readonly spread: number
  readonly messages: VisitorMessages
  /** Has a wake published. */
  readonly askWake: () => void
  /** Deadlines have changed. */
  readonly rouse: () => void
  /** Ends the socket: nothing else is left to do for it. */
  readonly giveUp: (refusal: Refusal) => void
  /** Counts sockets asleep. */
  readonly meter: (change: 1 | -1) => void
}

const never = Number.POSITIVE_INFINITY

/** Awake for moments only, however often it was woken. */
const restless: Refusal = { code: "actor_not_ready", rivet: "guard.actor_wake_retries_exceeded" }

/** The sleep and the waking of one WebSocket that its app accepted as able to hibernate. */
export class Hibernation {
  private readonly owner: HibernationOwner
  private phase: Phase = "Awake"
  /** When the present phase is over, unless something happens before. */
  private dueMs = never
  /** The first attempt to wake since somebody held the other end. */
  private tryingSinceMs: number | undefined
  /** Attempts that have led to nothing that lasted. */
  private tries = 0
  private lastCode: GatewayErrorCode = "runner_lost"
  private attachedMs = Number.NEGATIVE_INFINITY
  /** Whether the app has said anything since: then whoever it is attached to knows this socket. It began by accepting it. */
  private lively = true
  /** The first message sent to an app that has not. */
  private unprovenMs = never
  private stuckMs = never
  private acknowledgedMs = 0

  constructor(owner: HibernationOwner) {
    this.owner = owner
  }

  get asleep(): boolean {
    return this.phase !== "Awake"
  }

  /** Nobody holds the other end any more. `wanted`: there is a reason to wake at once. */
  onAsleep(wanted: boolean): void {
    if (this.asleep) return
    this.owner.meter(1)
    this.enter("Asleep", never)
    // One that was hardly up goes on with its attempts, so that an actor which falls asleep again and again is not woken in a circle.
    if (this.owner.nowMs() - this.attachedMs >= limits.hibernationRetryMaxMs) this.tries = 0
    this.unprovenMs = this.stuckMs = never
    if (wanted) this.wake()
  }

  /** There is something to say to the app. */
  wake(): void {
    if (this.phase !== "Asleep") return
    this.tryingSinceMs ??= this.owner.nowMs()
    if (this.tries === 0) this.ask()
    else this.waitAWhile()
  }

  /** The app speaks, so that there is a hub and the actor is with it: no attempt need wait any longer. */
  recall(): void {
    if (this.phase === "Waiting") this.ask()
    else this.wake()
  }

  /** A hub has the wake, and starts the actor. */
  onHeard(): void {
    if (this.phase === "Asked") this.enter("Starting", this.owner.nowMs() + limits.placementMs)
  }

  /** No hub, or none that could wake the actor. */
  onRefused(code: GatewayErrorCode): void {
    if (this.phase === "Awake") return
    // Whatever is asked again, an actor that is gone does not come back, nor one's generation that knew the socket.
    if (code === "actor_not_found" || code === "actor_stopped") return this.owner.giveUp({ code })
    if (this.phase !== "Asked" && this.phase !== "Starting") return
    this.lastCode = code
    this.waitAWhile()
  }

  /** A hub holds the other end again, asked or not. */
  onAttached(): void {
    if (!this.asleep) return
    this.owner.meter(-1)
    this.enter("Awake", never)
    this.attachedMs = this.owner.nowMs()
    this.tryingSinceMs = undefined
    this.lively = false
  }

  /** Messages went to the app. */
  onSent(): void {
    if (!this.lively && this.unprovenMs === never) this.unprovenMs = this.owner.nowMs()
  }

  /** The app sent something. */
  onLife(): void {
    this.lively = true
    this.unprovenMs = never
  }

  /** The app acknowledged. */
  onAcknowledged(): void {
    this.acknowledgedMs = this.owner.nowMs()
    this.onLife()
    this.tries = 0
  }

  /** When `onDeadline` is due. */
  deadlineMs(): number {
    if (this.asleep) return Math.min(this.dueMs, this.giveUpMs())
    if (!this.owner.messages.stuck) this.stuckMs = never
    else if (this.stuckMs === never) this.stuckMs = this.owner.nowMs()
    return Math.min(this.unprovenMs, Math.max(this.stuckMs, this.acknowledgedMs)) + limits.hibernationAckMs
  }

  onDeadline(): void {
    if (!this.asleep) {
      const stuck = this.owner.nowMs() >= Math.max(this.stuckMs, this.acknowledgedMs) + limits.hibernationAckMs
      return this.owner.giveUp({ code: stuck ? "pending_limit_reached" : "not_acknowledged" })
    }
    if (this.owner.nowMs() >= this.giveUpMs()) return this.owner.giveUp({ code: this.lastCode })
    if (this.phase === "Waiting") return this.ask()
    // Nobody spoke: the wake is lost, or whoever had it.
    this.lastCode = this.phase === "Starting" ? "actor_not_ready" : "runner_lost"
    this.waitAWhile()
  }

  /** The socket is over. */
  end(): void {
    if (this.asleep) this.owner.meter(-1)
    this.phase = "Awake"
  }

  private giveUpMs(): number {
    return this.phase === "Asleep" ? never : (this.tryingSinceMs ?? never) + limits.hibernationWakeMs
  }

  private ask(): void {
    if (++this.tries > limits.hibernationWakesMax) return this.owner.giveUp(restless)
    this.enter("Asked", this.owner.nowMs() + limits.hubAnswerMs)
    this.owner.askWake()
  }

  private waitAWhile(): void {
    const steps = Math.max(0, this.tries - 1)
    const wholeMs = Math.min(limits.hibernationRetryFirstMs * 2 ** steps, limits.hibernationRetryMaxMs)
    this.enter("Waiting", this.owner.nowMs() + wholeMs * (0.75 + this.owner.spread / 4))
  }

  private enter(phase: Phase, dueMs: number): void {
    this.phase = phase
    this.dueMs = dueMs
    this.owner.rouse()
  }
}
