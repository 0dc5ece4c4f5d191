/**
 * The rule of routes, small and obvious: one list, looked through from its beginning each time, no queue and no index. What the store in
 * `src/route/` does quickly must be what this says slowly; the simulation asks it what may reach a gateway.
 */
import type { Claimant, Refusal, RouteCounts, RouteState, RouteTableOptions } from "../../src/route/RouteStore.ts"
import type { RouteKey, SessionId } from "../../src/tunnel/Envelope.ts"

interface ModelRoute {
  readonly key: RouteKey
  readonly owner: SessionId
  state: RouteState
  /** When it came into this state. */
  since: number
  leftMeanwhile: boolean
}

const same = (one: RouteKey, other: RouteKey) => one.gatewayId === other.gatewayId && one.requestId === other.requestId

/** All routes of one hub, in the order in which they came into their state. */
export class RouteModel {
  private routes: ReadonlyArray<ModelRoute> = []
  private readonly options: RouteTableOptions
  private readonly generations = new Map<SessionId, number>()
  private readonly heardOf = new Map<number, number>()

  constructor(options: RouteTableOptions) {
    this.options = options
  }

  adopt({ generation, session }: Claimant): void {
    this.generations.set(session, Math.max(generation, this.generations.get(session) ?? 0))
  }

  issue(key: RouteKey, owner: SessionId, now: number): "Issued" | "Full" | "Taken" {
    this.forgetOld(now)
    const present = this.find(key)
    if (present === undefined || present.state === "Closed") {
      const live = this.routes.filter((route) => route.state !== "Closed")
      if (live.length >= this.options.routesMax) {
        const spare = live.find((route) => route.state === "HalfClosed")
        if (spare === undefined) {
          if (live.some((route) => route.key.gatewayId === key.gatewayId)) this.heardOf.set(key.gatewayId, now)
          return "Full"
        }
        this.move(spare, "Closed", now)
      }
    }
    this.heardOf.set(key.gatewayId, now)
    if (present !== undefined && present.state !== "Closed") return "Taken"
    this.routes = [...this.routes.filter((route) => !same(route.key, key))]
    this.move({ key, owner, state: "Open", since: now, leftMeanwhile: false }, "Open", now)
    return "Issued"
  }

  authorize(claimant: Claimant, key: RouteKey, terminal: boolean, now: number): "Admitted" | "Ending" | Refusal {
    const route = this.find(key)
    if (route === undefined) return "Unknown"
    if (route.owner !== claimant.session) return "Foreign"
    if (route.state !== "Open") return "Late"
    if ((this.generations.get(claimant.session) ?? 0) !== claimant.generation) return "Foreign"
    if (!terminal) return "Admitted"
    this.move(route, "Closing", now)
    return "Ending"
  }

  clear(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route?.state === "Closing") this.move(route, "Closed", now)
  }

  reopen(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route?.state === "Closing") this.move(route, route.leftMeanwhile ? "HalfClosed" : "Open", now)
  }

  halfClose(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route?.state === "Open") this.move(route, "HalfClosed", now)
    if (route?.state === "Closing") route.leftMeanwhile = true
  }

  close(key: RouteKey, now: number): void {
    const route = this.find(key)
    if (route !== undefined && route.state !== "Closed") this.move(route, "Closed", now)
  }

  revoke(owner: SessionId, now: number): ReadonlyArray<RouteKey> {
    this.generations.delete(owner)
    const own = this.routes.filter((route) => route.owner === owner && route.state !== "Closed")
    const awaited = own.filter((route) => route.state !== "HalfClosed").map(({ key }) => key)
    for (const route of own) this.move(route, "Closed", now)
    return awaited
  }

  renew(gatewayId: number, now: number): void {
    this.heardOf.set(gatewayId, now)
  }

  expire(now: number): ReadonlyArray<{ readonly route: RouteKey; readonly session: SessionId }> {
    this.forgetOld(now)
    const lost = this.routes.filter(
      ({ key, state }) =>
        state !== "Closed" && now - (this.heardOf.get(key.gatewayId) as number) >= this.options.leaseMs
    )
    const awaited = lost.filter((route) => route.state !== "HalfClosed")
    for (const route of lost) this.move(route, "Closed", now)
    return awaited.map(({ key, owner }) => ({ route: key, session: owner }))
  }

  get counts(): RouteCounts {
    const counts = { Open: 0, Closing: 0, HalfClosed: 0, Closed: 0 }
    for (const { state } of this.routes) counts[state]++
    return counts
  }

  /** The state of one route, undefined where it was never issued or is forgotten. */
  stateOf(key: RouteKey): RouteState | undefined {
    return this.find(key)?.state
  }

  /** Whose a route is or was. */
  ownerOf(key: RouteKey): SessionId | undefined {
    return this.find(key)?.owner
  }

  private find(key: RouteKey): ModelRoute | undefined {
    return this.routes.find((route) => same(route.key, key))
  }

  private move(route: ModelRoute, state: RouteState, now: number): void {
    route.state = state
    route.since = now
    this.routes = [...this.routes.filter((other) => other !== route), route]
    const closed = this.routes.filter((other) => other.state === "Closed")
    const beyond = closed.slice(0, Math.max(0, closed.length - this.options.tombstonesMax))
    this.routes = this.routes.filter((other) => !beyond.includes(other))
  }

  private forgetOld(now: number): void {
    const { halfClosedMs, tombstoneMs } = this.options
    for (const route of this.routes) {
      if (route.state === "HalfClosed" && now - route.since >= halfClosedMs) this.move(route, "Closed", now)
    }
    this.routes = this.routes.filter((route) => route.state !== "Closed" || now - route.since < tombstoneMs)
  }
}
