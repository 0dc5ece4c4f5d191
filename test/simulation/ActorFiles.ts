/**
 * The control plane of actors, as the one process has it that controls them, and the files that it finds again when it comes back: the store of actors
 * and their own stores, in memory, and slow now and then. `ActorStoreSqlite.ts` has its own tests.
 */
import { Context, Effect, Layer } from "effect"
import * as ActorControl from "../../src/actor/ActorControl.ts"
import { layerMemory as kvMemory } from "../../src/actor/ActorKv.ts"
import { ActorStore, layerMemory as storeMemory } from "../../src/actor/ActorStore.ts"
import { NewUnique } from "../../src/actor/RivetId.ts"
import type { World } from "./World.ts"

const writeMsMax = 30

/** Files of one namespace. */
export const makeActorFiles = Effect.fnUntraced(function* (world: World) {
  const { random } = world
  const store = Context.get(yield* Layer.build(storeMemory), ActorStore)
  const kv = Layer.succeedContext(yield* Layer.build(kvMemory))
  const newUnique = () => Uint8Array.from({ length: 16 }, () => random.below(256))

  return {
    /** The control plane and the actors' stores of a process: once it is gone it writes nothing more, not even what was under way. */
    openedBy: (process: { readonly alive: boolean }) => {
      const own = ActorStore.of({
        ...store,
        write: (changes) =>
          Effect.suspend(() => (random.below(4) === 0 ? Effect.sleep(random.below(writeMsMax)) : Effect.void)).pipe(
            Effect.andThen(Effect.suspend(() => (process.alive ? store.write(changes) : Effect.void)))
          )
      })
      return ActorControl.layer().pipe(
        Layer.provide(Layer.mergeAll(Layer.succeed(ActorStore, own), Layer.succeed(NewUnique, newUnique))),
        Layer.provideMerge(kv)
      )
    }
  }
})
