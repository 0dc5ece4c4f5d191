/** A hub alone on a memory bus, and a gateway played by the test: it hears everything on one gateway's subject. */
import { Effect, Layer, Queue, Stream } from "effect"
import { layerOpen } from "../../src/auth/Authenticator.ts"
import { layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import { type HubOptions, layer as hubLayer } from "../../src/hub/Hub.ts"
import { layerMemory as routesMemory } from "../../src/route/RouteStore.ts"
import type { RouteKey, Uplink } from "../../src/tunnel/Envelope.ts"
import type { RequestFrame } from "../../src/tunnel/Frame.ts"

export const gatewayId = 0x0a0b0c0d
export const gatewaySubject = Subject.ofGateway("default", gatewayId)

/** Hub, bus and routes, all reachable by the test. */
export const hubAlone = (options: HubOptions = {}) =>
  hubLayer(options).pipe(Layer.provideMerge(Layer.mergeAll(busMemory, routesMemory, layerOpen)))

export const get = (target: string): RequestFrame => ({
  _tag: "RequestStart",
  method: "GET",
  target,
  headers: [["host", "web.localhost"]],
  body: new Uint8Array(0),
  streamed: false
})

/** Plays the gateway on its subject. */
export const gateway = Effect.gen(function* () {
  const bus = yield* MessageBus
  const inbox = yield* bus.subscribe(gatewaySubject)
  const uplinks = yield* Queue.unbounded<Uplink>()
  yield* Effect.forkScoped(
    Stream.runForEach(inbox, (envelope) =>
      envelope._tag === "Uplink" ? Queue.offer(uplinks, envelope) : Effect.die(new Error(envelope._tag))
    )
  )
  const send = (subject: string, name: string, route: RouteKey, index: number, frame: RequestFrame, one: boolean) =>
    bus.publish(
      subject,
      [
        {
          _tag: "Downlink",
          replyTo: gatewaySubject,
          name,
          actor: "",
          skipReadyWait: false,
          traceparent: "",
          route,
          index,
          frame
        }
      ],
      one ? "one" : "each"
    )
  return {
    /** Sends an opening frame to a name: to a hub that has a runner, else to one that waits for one. */
    open: (name: string, requestId: number, frame: RequestFrame) =>
      Effect.catchIf(
        send(Subject.ofName("default", name), name, { gatewayId, requestId }, 0, frame, true),
        ({ reason }) => reason === "NoResponders",
        () => send(Subject.ofAway("default", name), name, { gatewayId, requestId }, 0, frame, true)
      ),
    /** Sends a later frame to the hub that answered. */
    follow: (hub: string, requestId: number, frame: RequestFrame, index = 0) =>
      send(hub, "", { gatewayId, requestId }, index, frame, false),
    next: Queue.take(uplinks),
    /** What came so far and was not taken. */
    pending: Queue.clear(uplinks)
  }
})

/** Lets every fiber in the process do what it can do without time passing. */
export const settle = Effect.replicateEffect(Effect.yieldNow, 50, { discard: true })
