/** A visitor that is done between two steps of the fiber that waits for it is not waited for, whichever two they are. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer } from "effect"
import { layerMemory as busMemory } from "../../src/bus/MessageBus.ts"
import { Gateway, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { MemoryVisitor } from "../../src/testing/MemoryVisitor.ts"
import { atEveryMoment } from "../Stepwise.ts"

const gatewayOf = Effect.map(Layer.build(gatewayLayer().pipe(Layer.provide([busMemory, layerNoop]))), (built) =>
  Context.get(built, Gateway)
)

/** Asks for nobody and reads nothing of the answer, so the gateway waits for it to leave. */
const unhurried = () => new MemoryVisitor({ headers: [["Host", "localhost"]], unreadBytesMax: 10 })

const allEnd = (ends: ReadonlyArray<Exit.Exit<unknown, unknown> | undefined>) => {
  assert.isAbove(ends.length, 5)
  assert.isTrue(ends.every((exit) => exit !== undefined && Exit.isSuccess(exit)))
}

it.effect("a request ends at whatever moment its visitor leaves", () =>
  Effect.map(gatewayOf, (gateway) =>
    allEnd(
      atEveryMoment(() => {
        const visitor = unhurried()
        return { effect: gateway.request(visitor.exchange), happen: () => visitor.leave() }
      })
    )
  )
)

it.effect("a drain ends at whatever moment the last visitor leaves", () =>
  Effect.gen(function* () {
    const gateways = [yield* gatewayOf, yield* gatewayOf, yield* gatewayOf, yield* gatewayOf, yield* gatewayOf]
    let used = 0
    const ends = atEveryMoment(() => {
      const gateway = gateways[used++] as Gateway["Service"]
      const visitor = unhurried()
      Effect.runFork(gateway.request(visitor.exchange))
      return { effect: gateway.drain, happen: () => visitor.leave() }
    })
    assert.isTrue(ends.every((exit) => exit !== undefined && Exit.isSuccess(exit)))
  })
)
