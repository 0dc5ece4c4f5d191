/** What the parts of one hub share: its tables, its name, the bus and the store. Made once by `Hub.ts`. */
import type { Effect, Scope } from "effect"
import type { MessageBus } from "../bus/MessageBus.ts"
import type { AbuseMeter, Complaints } from "../protocol/Complaints.ts"
import type { DownFrame } from "../protocol/Wayleave1.ts"
import type { RouteStore } from "../route/RouteStore.ts"
import type { Envelope, RouteKey, Uplink } from "../tunnel/Envelope.ts"
import type { ResponseFrame } from "../tunnel/Frame.ts"
import type { Turn } from "../tunnel/Turn.ts"
import type { HandOver } from "./HandOver.ts"
import type { Relay } from "./Relay.ts"
import type { Session, Streams } from "./Session.ts"
import type { Verification } from "./Verification.ts"

/** What an operator may set; everything else has its number in `tunnel/Limits.ts`. */
export interface HubOptions {
  readonly namespace?: string
  /** Under which names are reached by host; told to runners. */
  readonly domain?: string
  readonly helloTimeoutMs?: number
  readonly graceMs?: number
  /** The same for Rivet's runners, whose actors live on for as long. */
  readonly runnerLostMs?: number
  readonly heartbeatMs?: number
  readonly heartbeatDeadlineMs?: number
  /**
   * The only hub on its bus, beside the only gateway: when it drains nobody sends it anything new, and nobody could go on with what is open. So it
   * waits for the streams and for nothing else.
   */
  readonly alone?: boolean
}

/** An envelope from this hub to a gateway; `session` is null where no runner was chosen. */
export type MakeUplink = (session: Session | null, route: RouteKey, index: number, frame: ResponseFrame) => Uplink

/** All that the parts of a hub share. */
export interface HubParts {
  readonly options: HubOptions
  readonly namespace: string
  readonly hubId: string
  readonly bus: MessageBus["Service"]
  readonly routes: RouteStore["Service"]
  readonly streams: Streams
  readonly uplink: MakeUplink
  readonly relay: Relay
  readonly verification: Verification
  readonly handOver: HandOver
  readonly turn: Turn
  /** Of all runners together: a flood of bad messages must not become a flood of log lines. */
  readonly complaints: Complaints
  /** The meter of one connection. */
  readonly makeAbuseMeter: () => AbuseMeter
  /** Tells a gateway, and again while the bus cannot; waits for nothing. */
  readonly tellGateway: (gatewayId: number, envelopes: ReadonlyArray<Envelope>) => Effect.Effect<void>
  /** Frames of these streams could not be published: their gateways are told as soon as the bus allows, and only then the routes end. */
  readonly onBroken: (session: Session, broken: ReadonlyArray<RouteKey>) => Effect.Effect<void>
  /** A gateway sent what has no form on its runner's wire: its stream cannot go on, and both sides of it are told. */
  readonly onUnencodable: (frame: DownFrame) => void
  /** As long as the hub lives. */
  readonly scope: Scope.Scope
  /** A runner said that it is leaving: it gets nothing new. */
  readonly onLeaving: (session: Session) => void
  /** Runs an effect beside everything else, for as long as the hub lives. */
  readonly runFork: (effect: Effect.Effect<void>) => void
  readonly isDraining: () => boolean
}
