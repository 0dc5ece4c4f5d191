/**
 * What a watch of one hub knows of routes that lead to actors. Those of WebSockets that can hibernate are issued again at each wake, without an opening
 * frame; no other may be.
 */
import { type Downlink, type RouteKey, showRoute } from "../../src/tunnel/Envelope.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { ends } from "./Truth.ts"
import type { World } from "./World.ts"

/** The name whose visitors reach actors. */
export const actorsName = "pool"

/** Those of one hub. */
export class ActorRoutes {
  /** `lasts`: the app has said that its WebSocket can hibernate, or its gateway that it sleeps. `woken`: a wake came that has led to nothing yet. */
  readonly book = new Map<string, { lasts: boolean; woken: boolean; readonly at: number }>()
  private readonly world: World

  constructor(world: World) {
    this.world = world
  }

  /** Whether this hub was ever asked for it, by an opening frame or a wake: then it may say that it is looking for its actor, however late. */
  wasAsked(route: RouteKey): boolean {
    return this.book.has(showRoute(route))
  }

  /** Whether it outlives its actor's sleep. */
  lasts(route: RouteKey): boolean {
    return this.book.get(showRoute(route))?.lasts === true
  }

  /** Whether it may be issued again. A wake may come while the end of what was before is still on its way up. */
  mayBeIssued(route: RouteKey): boolean {
    return this.lasts(route) || this.book.get(showRoute(route))?.woken === true
  }

  /** It was issued. */
  issued(route: RouteKey): void {
    const known = this.book.get(showRoute(route))
    if (known !== undefined) known.woken = false
  }

  /** An opening frame came. */
  opened({ actor, name, route }: Downlink): void {
    if (actor !== "" || name === actorsName) this.note(route, false)
  }

  /** A gateway says that its socket sleeps. */
  asleep(route: RouteKey): void {
    this.note(route, true)
  }

  /** A frame of its runner was admitted. */
  answered(route: RouteKey, frame: ResponseFrame): void {
    const known = this.book.get(showRoute(route))
    if (known === undefined) return
    if (frame._tag === "WebSocketOpen" && frame.canHibernate) known.lasts = true
    if (ends(frame) && !(frame._tag === "WebSocketClose" && frame.hibernate)) known.lasts = false
  }

  private note(route: RouteKey, lasts: boolean): void {
    this.book.set(showRoute(route), { lasts, woken: lasts, at: this.world.nowMs })
  }
}
