/**
 * Watches a gateway of a simulation from outside: what arrives for it, what it says, and how its streams begin and end. Before: `Watch.ts`, the
 * hubs; next: `Traffic.ts`, the visitors.
 */
import { Effect, Stream } from "effect"
import type { MessageBus } from "../../src/bus/MessageBus.ts"
import type { Gateway } from "../../src/gateway/Gateway.ts"
import type { StreamObserver, StreamStart } from "../../src/gateway/StreamObserver.ts"
import { type Envelope, showRoute } from "../../src/tunnel/Envelope.ts"
import type { Lookout } from "./Watch.ts"

/** One gateway under watch. */
export class GatewayWatch {
  readonly label: string
  private readonly lookout: Lookout
  private readonly namespace: string
  private readonly violate: (what: string) => void
  /** Streams that have begun and not ended, and whether they have a head. */
  private readonly streams = new Map<StreamStart, boolean>()
  private touched = false

  constructor(label: string, namespace: string, lookout: Lookout) {
    this.label = label
    this.namespace = namespace
    this.lookout = lookout
    this.violate = (what) => lookout.violate(`${label}: ${what}`)
  }

  /** The bus as the gateway gets it. */
  bus(inner: MessageBus["Service"]): MessageBus["Service"] {
    const { world } = this.lookout
    return {
      ...inner,
      subscribe: (subject, deliveries) =>
        Effect.map(
          inner.subscribe(subject, deliveries),
          Stream.map((envelope: Envelope) => {
            this.touched = true
            this.onArrival(envelope)
            return envelope
          })
        ),
      publish: (subject, envelopes, delivery) =>
        Effect.suspend(() => {
          this.touched = true
          for (const envelope of envelopes) {
            if (envelope._tag !== "Downlink") continue
            world.note(`${this.label} publishes ${envelope.frame._tag} ${showRoute(envelope.route)} #${envelope.index}`)
          }
          return inner.publish(subject, envelopes, delivery)
        })
    }
  }

  /** The second lock's own watchman: whatever the bus may do, only what a hub of this namespace was allowed to publish can arrive. */
  private onArrival(envelope: Envelope): void {
    // What hubs ask of a session that moved, and say of one that did, is judged by what follows.
    if (envelope._tag === "RouteQuestion" || envelope._tag === "SessionMoved" || envelope._tag === "SessionLeaving")
      return
    if (envelope._tag !== "Uplink") return this.violate(`gets a ${envelope._tag}`)
    const from = this.lookout.lawful.get(envelope)
    if (from === this.namespace) return
    const what = `${envelope.frame._tag} on ${showRoute(envelope.route)}`
    if (from === undefined) this.violate(`gets ${what} that no hub was allowed to publish`)
    else this.violate(`gets ${what} from namespace ${from}`)
  }

  /** Begun once, headed at most once, ended once: a second end that took effect would show here. */
  readonly observer: StreamObserver["Service"] = {
    start: (stream) => {
      this.touched = true
      if (this.streams.has(stream)) this.violate(`stream ${stream.requestId} begins twice`)
      this.streams.set(stream, false)
    },
    head: (stream) => {
      if (this.streams.get(stream) !== false) this.violate(`stream ${stream.requestId} gets a second head`)
      this.streams.set(stream, true)
    },
    end: (stream) => {
      this.touched = true
      if (!this.streams.delete(stream)) this.violate(`stream ${stream.requestId} ends twice`)
    }
  }

  /** What must hold after every step. */
  afterStep(gateway: Gateway["Service"]): void {
    if (!this.touched) return
    this.touched = false
    const [serving, entries] = [Effect.runSync(gateway.inFlight), Effect.runSync(gateway.streams)]
    if (serving !== this.streams.size) this.violate(`serves ${serving} streams, and ${this.streams.size} have begun`)
    if (entries > serving) this.violate(`has ${entries} entries for ${serving} streams`)
  }
}
