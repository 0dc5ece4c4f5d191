/**
 * The streams of this gateway in flight. An entry is made before anything is published, so a reply can be unknown but never early.
 *
 * Replies come in batches, are dealt to their streams synchronously and in order, and cost one map lookup each. Next: `StreamLink.ts`.
 */
import type { Subject } from "../bus/Subject.ts"
import type { Envelope, RouteKey } from "../tunnel/Envelope.ts"
import type { GatewayMeter } from "./GatewayMetrics.ts"
import { StreamLink } from "./StreamLink.ts"
import type { Addressee, LinkOptions, VisitorSide } from "./VisitorSide.ts"

const none: ReadonlyArray<unknown> = []

/** The table, owned by one gateway. */
export class InFlight {
  private readonly links = new Map<number, StreamLink>()
  private nextId: number
  private readonly gatewayId: number
  private readonly linksMax: number
  private readonly options: LinkOptions
  private readonly meter: GatewayMeter

  constructor(
    ids: { readonly gatewayId: number; readonly firstRequestId: number },
    linksMax: number,
    options: LinkOptions,
    meter: GatewayMeter
  ) {
    this.gatewayId = ids.gatewayId
    this.nextId = ids.firstRequestId
    this.linksMax = linksMax
    this.options = options
    this.meter = meter
  }

  get size(): number {
    return this.links.size
  }

  /** A route that is not in flight. Ids are used up in turn, so one that ended is not seen again for four thousand million requests. */
  freshRoute(): RouteKey {
    while (this.links.has(this.nextId)) this.nextId = (this.nextId + 1) >>> 0
    const route = { gatewayId: this.gatewayId, requestId: this.nextId }
    this.nextId = (this.nextId + 1) >>> 0
    return route
  }

  /** Enters a stream; undefined when the table is full. The entry stays until the stream's terminal frame came or its last word left. */
  enter(route: RouteKey, addressee: Addressee, side: VisitorSide): StreamLink | undefined {
    if (this.links.size >= this.linksMax) return undefined
    const link = new StreamLink(route, addressee, side, this.options, this.forget)
    this.links.set(route.requestId, link)
    return link
  }

  private readonly forget = (link: StreamLink): void => {
    if (this.links.get(link.route.requestId) === link) this.links.delete(link.route.requestId)
  }

  /**
   * Deals a batch of the inbox to the streams. What belongs to none is counted and dropped. A stream whose handling throws is a fault of ours:
   * it costs that stream and comes back for the log, while the others get their frames.
   */
  deal(envelopes: ReadonlyArray<Envelope>): ReadonlyArray<unknown> {
    let faults: Array<unknown> | undefined
    for (const envelope of envelopes) {
      // Only uplinks are addressed to a gateway; anything else is a stray of somebody's mistake.
      if (envelope._tag !== "Uplink" || envelope.route.gatewayId !== this.gatewayId) {
        this.meter.refused("Unknown")
        continue
      }
      const link = this.links.get(envelope.route.requestId)
      try {
        const refusal = link === undefined ? "Unknown" : link.receive(envelope)
        if (refusal !== undefined) this.meter.refused(refusal)
      } catch (fault) {
        faults ??= []
        faults.push(fault)
        link?.crash()
      }
    }
    return faults ?? none
  }

  /** The hubs that hold streams of this gateway: each is told that it lives. */
  hubs(): ReadonlySet<Subject> {
    const hubs = new Set<Subject>()
    for (const link of this.links.values()) if (link.hub !== undefined) hubs.add(link.hub)
    return hubs
  }

  /** A hub is gone: so are its streams, but for WebSockets that may hibernate. */
  lose(hub: Subject): void {
    for (const link of [...this.links.values()]) if (link.hub === hub) link.lose()
  }

  /**
   * The bus went out of reach, and whatever was under way on it may be missing without a later frame to show it: all streams fail that a hub
   * holds. One that no hub has answered yet has its own deadline, and may not have left at all.
   */
  loseAll(): void {
    for (const link of [...this.links.values()]) if (link.hub !== undefined) link.break("runner_lost", "gap")
  }
}
