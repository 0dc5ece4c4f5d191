/**
 * Whose a stream in flight is: the session it was given to, the newest connection of that session heard of, and the hub where that is. The second of
 * two locks stands here: the hub's route check let a frame through, and it must come from that session all the same.
 *
 * A hub that is gone, or has let go of the session, does not end the stream yet: a runner needs a moment to reach another, which then asks for it.
 */
import type { Subject } from "../bus/Subject.ts"
import type { RouteQuestion, SessionLeaving, Uplink } from "../tunnel/Envelope.ts"

/** What an uplink is to the stream. `Fenced`: of its session, over a connection that a newer one has replaced. */
export type Standing = "Current" | "Fenced" | "Foreign"

/** What becomes of a hub's claim. `Again`: it is the hub's already, and nothing changes. */
export type Claim = "Moved" | "Again" | "No"

/** Plain state of one stream; `StreamLink.ts` acts on it. */
export class StreamPin {
  /** The hub that has the stream, or had it last; unknown until its first word. */
  hub: Subject | undefined
  /** When the stream fails unless something is heard of it by then, in milliseconds of the gateway's clock; `Infinity` for never. */
  deadlineMs = Number.POSITIVE_INFINITY
  /** Nothing may go there: the hub is gone, or does not yet know that the stream was granted to it. */
  private shut = false
  /** Nothing may go there: the hub is about to be left. It may still be heard. */
  private held = false
  private session: string | undefined
  /** The newest connection that has spoken. */
  private heard = 0
  /** The oldest one that still counts: newer than `heard` where a hub said that there is one. */
  private least = 0
  /** The last one that claimed the stream. */
  private claimed = 0

  /** Whether there is a hub that would take a frame. */
  get reachable(): boolean {
    return this.hub !== undefined && !this.shut && !this.held
  }

  /** Whether a runner's session has the stream. */
  get known(): boolean {
    return this.session !== undefined
  }

  /** Whether this is the session that has, or had, the stream. */
  isOf(session: string): boolean {
    return this.session === session
  }

  /** A hub has the stream, and no session of it yet: until then it has to say more. */
  place(hub: Subject, untilMs: number): void {
    this.hub = hub
    this.deadlineMs = untilMs
  }

  /** A session has the stream that nobody had: what was before does not count. */
  attach({ generation, replyTo, session }: Uplink): void {
    this.session = session
    this.heard = generation
    this.least = generation
    this.claimed = 0
    this.hub = replyTo
    this.open()
  }

  /** Nobody has the stream any more, and it stays. */
  forget(): void {
    this.hub = undefined
    this.open()
  }

  /** Whether the stream was claimed since: what was granted until then has been told in one sum. */
  isClaimedSince({ generation }: Uplink): boolean {
    return generation < this.claimed
  }

  /** Judges who speaks. The first to speak has the stream; a session that moved answers from elsewhere, and is answered there. */
  hear({ generation, replyTo, session }: Uplink): Standing {
    if (this.session === undefined) this.session = session
    else if (this.session !== session) return "Foreign"
    if (generation < this.least) return "Fenced"
    this.heard = generation
    this.least = generation
    this.hub = replyTo
    this.shut = false
    this.deadlineMs = Number.POSITIVE_INFINITY
    return "Current"
  }

  /** A hub asks for the stream. */
  claim({ generation, replyTo, session }: RouteQuestion): Claim {
    if (this.session !== session || generation < this.least) return "No"
    if (generation === this.claimed && replyTo === this.hub) return "Again"
    if (generation <= Math.max(this.heard, this.claimed)) return "No"
    this.least = generation
    this.claimed = generation
    this.hub = replyTo
    this.shut = true
    this.held = false
    this.deadlineMs = Number.POSITIVE_INFINITY
    return "Moved"
  }

  /**
   * The hub is about to be left by the session: nothing goes down until another hub claims the stream, or this one is gone. A hub that says so after
   * another has the stream, or says it again, is believed no more: nobody would claim the stream a second time.
   */
  hold({ replyTo, session }: SessionLeaving): void {
    if (this.session === session && this.hub === replyTo) this.held = true
  }

  /** The hub may be written to: it has been told, or there is no better one. */
  open(): void {
    this.shut = false
    this.held = false
    this.deadlineMs = Number.POSITIVE_INFINITY
  }

  /** The hub is gone: the stream waits to be heard of until then. Known before, it waits no longer for being told again. */
  lose(untilMs: number): void {
    if (this.deadlineMs === Number.POSITIVE_INFINITY) this.deadlineMs = untilMs
    this.shut = true
  }

  /** Whether a connection of this session and generation is news: until it is heard, nothing older counts. */
  expect(session: string, generation: number): boolean {
    if (this.session !== session || generation <= this.least) return false
    this.least = generation
    return true
  }
}
