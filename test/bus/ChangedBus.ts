/** A memory bus whose publishes a test makes fail, wait or go unconfirmed. */
import { Effect, Layer } from "effect"
import { layerMemory, MessageBus } from "../../src/bus/MessageBus.ts"

type Publish = MessageBus["Service"]["publish"]

/** A memory bus that publishes as `change` says; `real` is how it would. */
export const changedBus = (change: (real: Publish) => Publish): Layer.Layer<MessageBus> =>
  Layer.effect(
    MessageBus,
    Effect.map(MessageBus, (bus) => MessageBus.of({ ...bus, publish: change(bus.publish) }))
  ).pipe(Layer.provide(layerMemory))
