/**
 * Whether an actor is still there, asked over the wire without its code being run: a GET with a body. The published client finds the actor, fails to
 * build the request before it calls the app, and answers 500; of an actor that it does not have it says nothing at all.
 *
 * Nobody's route is needed for that: the question and its answer stay between this connection and its runner.
 */
import type { Placement } from "../../actor/ActorControl.ts"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { isTerminal, type ResponseFrame } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import type { RivetWire } from "./RivetWire.ts"

const question = {
  _tag: "RequestStart",
  method: "GET",
  target: "/",
  headers: [],
  body: new Uint8Array([0]),
  streamed: false
} as const

/** The questions of one connection that have no answer yet. */
export class Probes {
  private readonly gatewayId: number
  private readonly wire: RivetWire
  private readonly onAlive: (placement: Placement) => void
  private readonly asked = new Map<number, Placement>()
  private nextId = 0

  /** `gatewayId`: drawn for this connection, since no gateway asks. `onAlive`: that generation of the actor is there. */
  constructor(gatewayId: number, wire: RivetWire, onAlive: (placement: Placement) => void) {
    this.gatewayId = gatewayId
    this.wire = wire
    this.onAlive = onAlive
  }

  /** Asks for one generation of an actor. */
  ask(placement: Placement): void {
    const requestId = this.nextId
    this.nextId = (requestId + 1) >>> 0
    this.asked.set(requestId, placement)
    if (this.asked.size > limits.rivetProbesOut) this.asked.delete(this.asked.keys().next().value as number)
    const route = { gatewayId: this.gatewayId, requestId }
    this.wire.sayFrame({ route, index: 0, actorId: placement.actorId, frame: question, grantBytes: 0 })
  }

  /** Takes a frame that answers a question of ours; false where it is none. */
  take(route: RouteKey, frame: ResponseFrame): boolean {
    if (route.gatewayId !== this.gatewayId) return false
    const placement = this.asked.get(route.requestId)
    if (placement === undefined) return false
    if (isTerminal(frame)) this.asked.delete(route.requestId)
    this.onAlive(placement)
    return true
  }
}
