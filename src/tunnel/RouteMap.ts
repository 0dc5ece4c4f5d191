/** A map keyed by route: two levels of plain numbers, since a joined key would be a string made for every frame. */
import type { RouteKey } from "./Envelope.ts"

/** Values by route. Not bounded by itself: whoever fills it is. */
export class RouteMap<A> {
  private readonly gateways = new Map<number, Map<number, A>>()
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
      requests = new Map()
      this.gateways.set(route.gatewayId, requests)
    }
    if (!requests.has(route.requestId)) this.count++
    requests.set(route.requestId, value)
  }

  /** Returns what was there. */
  delete(route: RouteKey): A | undefined {
    const requests = this.gateways.get(route.gatewayId)
    const value = requests?.get(route.requestId)
    if (requests === undefined || !requests.delete(route.requestId)) return undefined
    this.count--
    if (requests.size === 0) this.gateways.delete(route.gatewayId)
    return value
  }

  *values(): Iterable<A> {
    for (const requests of this.gateways.values()) yield* requests.values()
  }

  *routes(): Iterable<RouteKey> {
    for (const [gatewayId, requests] of this.gateways) {
      for (const requestId of requests.keys()) yield { gatewayId, requestId }
    }
  }
}
