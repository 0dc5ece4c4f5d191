/**
 * The streams of this gateway in flight. An entry is made before anything is published, so a reply can be unknown but never early.
 *
 * Replies come in batches, are dealt to their streams synchronously and in order, and cost one map lookup each. Next: `StreamLink.ts`.
 */
import type { Subject } from "../bus/Subject.ts"
import type {
  Envelope,
  RouteAnswer,
  RouteKey,
  RouteQuestion,
  SessionLeaving,
  SessionMoved,
  Uplink
} from "../tunnel/Envelope.ts"
import { absurd } from "../tunnel/Frame.ts"
import { IdMap } from "../tunnel/IdMap.ts"
import { limits } from "../tunnel/Limits.ts"
import type { GatewayMeter } from "./GatewayMetrics.ts"
import { StreamLink } from "./StreamLink.ts"
import type { Addressee, LinkOptions, VisitorSide } from "./VisitorSide.ts"

const none: ReadonlyArray<never> = []

/** What a batch left to be done: faults to be logged, and first words of hubs for streams that we never had of them. */
export interface Dealt {
  readonly faults: ReadonlyArray<unknown>
  /**
   * A hub's first word for a stream that is not in flight, or that another session has: its opening frame was reported as lost and arrived, or
   * arrived twice. The hub must be told, or it and its runner keep the stream for as long as we live.
   */
  readonly unwanted: ReadonlyArray<Uplink>
}

/** What a hub asks, and has to be answered. */
export type HubQuestion = RouteQuestion | SessionLeaving

/** What a hub is told, and the streams that it may go on with. `faults` are ours, for the log. */
export interface Answered {
  readonly answer: RouteAnswer
  readonly claimed: ReadonlyArray<StreamLink>
  readonly faults: ReadonlyArray<unknown>
}

/**
 * A runner whose wire knows no Hello goes on with a WebSocket after its hub was lost. If it is the one that had it, the WebSocket is woken at whoever
 * controls its actor now, which is the hub that asks. `false`: it did not, or nothing can be woken.
 */
const recall = (link: StreamLink, { replyTo, session }: RouteQuestion): boolean => {
  if (!link.pin.isOf(session) || !(link.asleep || link.state === "SocketLasting")) return false
  // Its hub was lost, and we are told before we notice ourselves.
  if (!link.asleep && link.pin.hub !== replyTo) link.lose()
  link.sleeper?.onRecalled()
  return true
}

/** The table, owned by one gateway. */
export class InFlight {
  private readonly links = new IdMap<StreamLink>()
  /** When each hub with streams of ours heard of us for certain. */
  private readonly heardMs = new Map<Subject, number>()
  private nextId: number
  private readonly gatewayId: number
  private readonly linksMax: number
  private readonly options: LinkOptions
  private readonly meter: GatewayMeter

  constructor(
    ids: { readonly gatewayId: number; readonly firstRequestId: number },
    linksMax: number,
    options: Omit<LinkOptions, "onOver">,
    meter: GatewayMeter
  ) {
    this.gatewayId = ids.gatewayId
    this.nextId = ids.firstRequestId
    this.linksMax = linksMax
    this.options = { ...options, onOver: (link) => this.forget(link) }
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
    const link = new StreamLink(route, addressee, side, this.options)
    this.links.set(route.requestId, link)
    return link
  }

  private forget(link: StreamLink): void {
    if (this.links.get(link.route.requestId) === link) this.links.delete(link.route.requestId)
  }

  /**
   * Deals a batch of the inbox to the streams. What belongs to none is counted and dropped. A stream whose handling throws is a fault of ours:
   * it costs that stream and comes back for the log, while the others get their frames. What a hub asks is handed to `onQuestion`, in its turn.
   */
  deal(envelopes: ReadonlyArray<Envelope>, onQuestion: (question: HubQuestion) => void = () => {}): Dealt {
    let faults: Array<unknown> | undefined
    let unwanted: Array<Uplink> | undefined
    for (const envelope of envelopes) {
      switch (envelope._tag) {
        case "Uplink": {
          const link = this.find(envelope.route)
          try {
            const refusal = link === undefined ? "Unknown" : link.receive(envelope)
            if (refusal === undefined) continue
            this.meter.refused(refusal)
            if (envelope.frame._tag !== "Credit" || (refusal !== "Unknown" && refusal !== "Foreign")) continue
            // A stray: no hub has been promised anything in the name of another gateway.
            if (envelope.route.gatewayId !== this.gatewayId) continue
            unwanted ??= []
            unwanted.push(envelope)
          } catch (fault) {
            faults ??= []
            faults.push(fault)
            link?.crash()
          }
          continue
        }
        case "SessionLeaving":
          for (const route of envelope.routes) this.find(route)?.pin.hold(envelope)
          onQuestion(envelope)
          continue
        case "RouteQuestion":
          onQuestion(envelope)
          continue
        case "SessionMoved":
          this.release(envelope)
          continue
        // Addressed to hubs: a stray of somebody's mistake.
        case "Downlink":
        case "LeaseRenewal":
        case "Wake":
        case "RouteAnswer":
        case "SessionTaken":
        case "SessionHeld":
        case "ActorClaim":
        case "ActorQuestion":
        case "ActorAnswer":
          this.meter.refused("Unknown")
          continue
      }
      absurd(envelope)
    }
    return { faults: faults ?? none, unwanted: unwanted ?? none }
  }

  private find({ gatewayId, requestId }: RouteKey): StreamLink | undefined {
    return gatewayId === this.gatewayId ? this.links.get(requestId) : undefined
  }

  private release({ generation, routes, session }: SessionMoved): void {
    for (const route of routes) this.find(route)?.moved(session, generation)
  }

  /**
   * A session moved to another hub, which asks which of these streams are its own. This is the source of truth: granted is what is in flight, was given
   * to that very session, and to no newer connection of it. What has to go down for `claimed` waits until they are told that the hub has its answer.
   */
  answer(question: RouteQuestion): Answered {
    const { generation, session } = question
    const granted: Array<RouteKey> = []
    const denied: Array<RouteKey> = []
    const claimed: Array<StreamLink> = []
    const faults: Array<unknown> = []
    for (const stream of question.streams) {
      const link = this.find(stream.route)
      try {
        if (stream.from === null && stream.open === null) {
          if (link === undefined || !recall(link, question)) denied.push(stream.route)
          continue
        }
        const claim = link?.addressee.name === question.name ? link.claim(question, stream) : "No"
        if (claim === "Moved") claimed.push(link as StreamLink)
        if (claim !== "No") {
          granted.push(stream.route)
          continue
        }
      } catch (fault) {
        faults.push(fault)
        link?.crash()
      }
      denied.push(stream.route)
    }
    return { answer: { _tag: "RouteAnswer", session, generation, granted, denied }, claimed, faults }
  }

  /** Those that may have a deadline. */
  readonly all = (): Iterable<StreamLink> => this.links.values()

  /** The hubs that hold streams of this gateway: each is told that it lives. */
  hubs(): ReadonlySet<Subject> {
    const hubs = new Set<Subject>()
    for (const link of this.links.values()) if (link.pin.hub !== undefined) hubs.add(link.pin.hub)
    for (const hub of this.heardMs.keys()) if (!hubs.has(hub)) this.heardMs.delete(hub)
    return hubs
  }

  /** A renewal that was begun at `begunMs` reached the hub. After a lease of silence it came too late for the streams from before. */
  renewed(hub: Subject, begunMs: number): void {
    this.unheard(hub)
    this.heardMs.set(hub, begunMs)
  }

  /** A hub that heard nothing of us for a lease took us for dead: it has ended our streams, and there was nobody to be told. */
  unheard(hub: Subject): void {
    const nowMs = this.options.nowMs()
    const heardMs = this.heardMs.get(hub)
    // Where it was opened between two renewals, it heard of us then.
    if (heardMs === undefined) this.heardMs.set(hub, nowMs - limits.leaseRenewalMs)
    else if (nowMs - heardMs >= limits.leaseMs) this.endedBy(hub, nowMs - limits.leaseMs)
  }

  private endedBy(hub: Subject, openedByMs: number): void {
    for (const link of this.links.values()) {
      if (link.pin.hub === hub && link.openedMs <= openedByMs && !link.asleep) link.break("runner_lost", "session_lost")
    }
  }

  /** A hub is gone. Its streams fail soon, instead of waiting for deadlines, unless they are heard of from another. */
  lose(hub: Subject): void {
    for (const link of this.links.values()) if (link.pin.hub === hub) link.lose()
  }

  /**
   * The bus went out of reach, and whatever was under way on it may be missing without a later frame to show it: all streams fail that a hub
   * holds. One that no hub has answered yet has its own deadline, and may not have left at all.
   */
  loseAll(): void {
    for (const link of this.links.values()) {
      if (link.pin.hub !== undefined && !link.asleep) link.break("runner_lost", "gap")
    }
  }
}
