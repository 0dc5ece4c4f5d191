/** A map keyed by route: two levels of plain numbers, since a joined key would be a string made for every frame. */
import type { RouteKey } from "./Envelope.ts"
import { IdMap } from "./IdMap.ts"

/** Values by route. Not bounded by itself: whoever fills it is. */
export class RouteMap<A> {
  private readonly gateways = new Map<number, IdMap<A>>()
  private count = 0

  get size(): number {
    return this.count
  }

  get(route: RouteKey): A | undefined {
    return this.gateways.get(route.gatewayId)?.get(route.requestId)
  }

  set(route: RouteKey, value: A): void {
    let requests = this.gateways.get(route.gatewayId)
    if (requests === undefined) {
      requests = new IdMap()
      this.gateways.set(route.gatewayId, requests)
    }
    if (!requests.has(route.requestId)) this.count++
    requests.set(route.requestId, value)
  }

  /** Returns what was there. */
  delete(route: RouteKey): A | undefined {
    const requests = this.gateways.get(route.gatewayId)
    const value = requests?.delete(route.requestId)
    if (requests === undefined || value === undefined) return undefined
    this.count--
    // The last one's table stays: its next request is likely not far.
    if (requests.size === 0 && this.gateways.size > 1) this.gateways.delete(route.gatewayId)
    return value
  }

  /** All there are now, in no order; what is deleted or set meanwhile does not change the list. */
  values(): Array<A> {
    return [...this.gateways.values()].flatMap((requests) => requests.values())
  }

  /** The routes of those, likewise. */
  routes(): Array<RouteKey> {
    return [...this.gateways].flatMap(([gatewayId, requests]) =>
      requests.keys().map((requestId) => ({ gatewayId, requestId }))
    )
  }
}
