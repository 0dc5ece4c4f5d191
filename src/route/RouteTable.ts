/**
 * The table of routes of one hub as plain data: who may answer what, in which state. Synchronous, without a clock of its own and without a
 * timer per route: what has run out is swept from the head of a queue, since everything in one queue waits equally long.
 *
 * `RouteStore.ts` makes a service of it. The states and what each means stand in `docs/internals/routes.md`.
 */
import type { RouteKey, SessionId } from "../tunnel/Envelope.ts"
import { Fifo } from "../tunnel/Fifo.ts"
import { absurd, isTerminal, type ResponseFrame } from "../tunnel/Frame.ts"
import { IdMap } from "../tunnel/IdMap.ts"
import { Tombstones } from "./Tombstones.ts"

/**
 * `Open`: the owner may answer. `Closing`: its terminal frame is being published. `HalfClosed`: the gateway spoke the last word, a polite
 * runner still echoes. `Closed`: over; remembered a while, so that a late frame is not taken for a forged one.
 */
export type RouteState = "Open" | "Closing" | "HalfClosed" | "Closed"

/** Why a frame was not admitted. `Late` is normal, both ends may finish at once; the others are not. */
export type Refusal = "Unknown" | "Foreign" | "Late"

/** Who sends: a session, over its connection of this generation. Only the newest connection speaks for a session. */
export interface Claimant {
  readonly session: SessionId
  readonly generation: number
}

type LiveState = Exclude<RouteState, "Closed">

/** How many routes are in each state. */
export type RouteCounts = { readonly [State in RouteState]: number }

/** The bounds of a table and the spans after which its entries end. */
export interface RouteTableOptions {
  /** Routes that are not Closed. */
  readonly routesMax: number
  readonly tombstonesMax: number
  readonly tombstoneMs: number
  readonly halfClosedMs: number
  readonly leaseMs: number
}

interface Owner {
  readonly id: SessionId
  generation: number
  /** In no order: each knows its place. */
  readonly routes: Array<Route>
}

interface Gateway {
  readonly id: number
  renewedAt: number
  readonly routes: IdMap<Route>
}

/** A live route. One that is Closed is only a tombstone: `Tombstones.ts`. */
interface Route {
  readonly key: RouteKey
  readonly gateway: Gateway
  readonly owner: Owner
  /** Where it stands among its owner's. */
  place: number
  state: LiveState
  /** The gateway has spoken the last word while the terminal frame was being published. */
  halfClosed: boolean
  /** When HalfClosed runs out. */
  until: number
  /** Closed, and out of the table, wherever it still stands in a queue. */
  gone: boolean
}

/** Takes a route out of its owner's list: the last one takes its place. */
const withdraw = ({ owner, place }: Route): void => {
  const last = owner.routes.pop() as Route
  if (last.place === place) return
  last.place = place
  owner.routes[place] = last
}

/** The states of all routes of one hub and every move between them. Plain data, told the time; the service around it is `RouteStore.ts`. */
export class RouteTable {
  private readonly options: RouteTableOptions
  private readonly gateways = new Map<number, Gateway>()
  private readonly owners = new Map<SessionId, Owner>()
  /** In the order in which they run out. A route that moved on meanwhile is passed over when its turn comes. */
  private readonly halfClosed = new Fifo<Route>()
  private readonly tombstones: Tombstones
  private readonly counts: { -readonly [State in LiveState]: number } = {
    Open: 0,
    Closing: 0,
    HalfClosed: 0
  }

  constructor(options: RouteTableOptions) {
    this.options = options
    this.tombstones = new Tombstones(options)
  }

  /** This connection speaks for the session from now on; every older one is fenced. */
  adopt({ session, generation }: Claimant): void {
    const owner = this.ownerOf(session)
    if (generation > owner.generation) owner.generation = generation
  }

  /** `Full`: as many routes live as may. `Taken`: the key is in use, so the request was already given to somebody. */
  issue(key: RouteKey, session: SessionId, now: number): "Issued" | "Full" | "Taken" {
    this.sweep(now)
    const gateway = this.gatewayOf(key.gatewayId, now)
    if (gateway.routes.has(key.requestId)) return "Taken"
    if (this.live >= this.options.routesMax && !this.closeOldestHalfClosed(now)) return "Full"
    this.tombstones.remove(key)
    // New, or taken out just now: room may have been made by closing the last route of this very gateway.
    this.gateways.set(gateway.id, gateway)
    const owner = this.ownerOf(session)
    const place = owner.routes.length
    const route: Route = { key, gateway, owner, place, state: "Open", halfClosed: false, until: 0, gone: false }
    gateway.routes.set(key.requestId, route)
    owner.routes.push(route)
    this.counts.Open++
    return "Issued"
  }

  /** Judges one frame. An admitted terminal frame takes its route to Closing. */
  authorize(claimant: Claimant, key: RouteKey, frame: ResponseFrame): "Admitted" | "Ending" | Refusal {
    const route = this.find(key)
    if (route === undefined) {
      const buried = this.tombstones.ownerOf(key)
      if (buried === undefined) return "Unknown"
      return buried === claimant.session ? "Late" : "Foreign"
    }
    const { owner } = route
    // Foreign before Late: a session that never held the route is told the same whatever became of it, and a forger learns nothing.
    if (owner.id !== claimant.session) return "Foreign"
    switch (route.state) {
      case "Open":
        if (owner.generation !== claimant.generation) return "Foreign"
        if (!isTerminal(frame)) return "Admitted"
        this.move(route, "Closing")
        return "Ending"
      case "Closing":
      case "HalfClosed":
        return "Late"
    }
    return absurd(route.state)
  }

  /** Closing → Closed: the terminal frame was published. */
  clear(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route !== undefined && route.state === "Closing") this.bury(route, now)
  }

  /** Closing → Open: it was not, so it may be sent again. Where the gateway has left meanwhile, nobody waits for it: HalfClosed. */
  reopen(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route === undefined || route.state !== "Closing") return
    this.move(route, "Open")
    if (route.halfClosed) this.halfClose(key, now)
  }

  /** The gateway sent its last word. */
  halfClose(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route === undefined) return
    switch (route.state) {
      case "Open":
        this.move(route, "HalfClosed")
        route.until = now + this.options.halfClosedMs
        this.halfClosed.push(route)
        return
      case "Closing":
        route.halfClosed = true
        return
      case "HalfClosed":
        return
    }
    return absurd(route.state)
  }

  /** Closes one route that will never be answered: it could not be written to its runner after all. */
  close(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route !== undefined) this.bury(route, now)
  }

  /** Closes every live route of a session that is gone and forgets it; returns those somebody still waited for. */
  revoke(session: SessionId, now: number): ReadonlyArray<RouteKey> {
    const owner = this.owners.get(session)
    if (owner === undefined) return []
    const closed = this.buryAll(owner.routes, now)
    this.owners.delete(session)
    return closed
  }

  /** The gateway lives. */
  renew(gatewayId: number, now: number): void {
    const gateway = this.gateways.get(gatewayId)
    if (gateway !== undefined) gateway.renewedAt = now
  }

  /** Sweeps what has run out and closes the routes of gateways that were not heard of for a lease; returns those, with their owners. */
  expire(now: number): ReadonlyArray<{ readonly route: RouteKey; readonly session: SessionId }> {
    this.sweep(now)
    const expired: Array<{ readonly route: RouteKey; readonly session: SessionId }> = []
    for (const gateway of this.gateways.values()) {
      if (now - gateway.renewedAt < this.options.leaseMs) continue
      for (const route of gateway.routes.values()) {
        if (route.state !== "HalfClosed") expired.push({ route: route.key, session: route.owner.id })
        this.bury(route, now)
      }
    }
    return expired
  }

  get stateCounts(): RouteCounts {
    return { ...this.counts, Closed: this.tombstones.size }
  }

  /** What is held besides the routes themselves, for tests and inspection. At rest only the sessions that are there. */
  get held(): { readonly sessions: number; readonly gateways: number; readonly halfClosing: number } {
    return { sessions: this.owners.size, gateways: this.gateways.size, halfClosing: this.halfClosed.length }
  }

  /** The state of one route, for tests and inspection. */
  stateOf(key: RouteKey): RouteState | undefined {
    return this.find(key)?.state ?? (this.tombstones.ownerOf(key) === undefined ? undefined : "Closed")
  }

  private get live(): number {
    return this.counts.Open + this.counts.Closing + this.counts.HalfClosed
  }

  private find(key: RouteKey): Route | undefined {
    return this.gateways.get(key.gatewayId)?.routes.get(key.requestId)
  }

  private ownerOf(session: SessionId): Owner {
    let owner = this.owners.get(session)
    if (owner === undefined) {
      owner = { id: session, generation: 0, routes: [] }
      this.owners.set(session, owner)
    }
    return owner
  }

  /** It was heard of. One that is not in the table comes into it with its first route. */
  private gatewayOf(id: number, now: number): Gateway {
    const gateway = this.gateways.get(id)
    if (gateway === undefined) return { id, renewedAt: now, routes: new IdMap() }
    gateway.renewedAt = now
    return gateway
  }

  private move(route: Route, state: LiveState): void {
    this.counts[route.state]--
    route.state = state
    this.counts[state]++
  }

  /** Whatever it was → Closed: out of the table, among the tombstones. */
  private bury(route: Route, now: number): void {
    const { gateway, key, owner } = route
    this.counts[route.state]--
    route.gone = true
    withdraw(route)
    gateway.routes.delete(key.requestId)
    if (gateway.routes.size === 0) this.gateways.delete(gateway.id)
    this.tombstones.add(key, owner.id, now)
  }

  private buryAll(routes: Iterable<Route>, now: number): ReadonlyArray<RouteKey> {
    const awaited: Array<RouteKey> = []
    for (const route of [...routes]) {
      if (route.state !== "HalfClosed") awaited.push(route.key)
      this.bury(route, now)
    }
    return awaited
  }

  /** Right after a sweep, which leaves at the head one that is still HalfClosed, or none at all. */
  private closeOldestHalfClosed(now: number): boolean {
    const route = this.halfClosed.shift()
    if (route === undefined) return false
    this.bury(route, now)
    return true
  }

  private sweep(now: number): void {
    for (;;) {
      const route = this.halfClosed.peek()
      if (route === undefined) break
      if (!route.gone && route.until > now) break
      this.halfClosed.shift()
      if (!route.gone) this.bury(route, now)
    }
    this.tombstones.sweep(now)
  }
}
