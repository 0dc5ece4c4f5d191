/** Whole worlds of runners that go wrong by seed: `WAYLEAVE_CONTROL_SEEDS=200 npx vitest run … test/actor/ControlModel.test.ts` looks at more of them. */
import { describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Random } from "effect"
import { ActorStore, layerMemory } from "../../src/actor/ActorStore.ts"
import { calm, storm, World } from "./ControlWorld.ts"

const seeds = Number(process.env.WAYLEAVE_CONTROL_SEEDS ?? 12)
const only = process.env.WAYLEAVE_CONTROL_SEED

const run = (seed: string) => {
  const life = Effect.gen(function* () {
    const store = Context.get(yield* Layer.build(layerMemory), ActorStore)
    const probing = (yield* Random.nextIntBetween(0, 1)) === 1
    const world = new World(store, probing)
    yield* world.begin
    for (let i = 0; i < 3; i++) yield* world.addClient
    const show = () => {
      if (only !== undefined) process.stderr.write(`${world.log.join("\n")}\n`)
    }
    const body = Effect.gen(function* () {
      for (let i = 0; i < 600; i++) yield* world.step(storm, yield* Random.nextIntBetween(1, 800))
      // Everything wrong is found within the five minutes after which runners list their actors, and half an hour a stop may take.
      for (let i = 0; i < 700; i++) yield* world.step(calm, 1_000)
      yield* world.settled
    })
    yield* Effect.tapCause(body, () => Effect.sync(show))
  })
  return life.pipe(
    Random.withSeed(seed),
    Effect.tapCause(() => Effect.logError(`repeat with WAYLEAVE_CONTROL_SEED=${seed}`))
  )
}

describe("runners, connections and the control plane fail as a seed has it, and after quiet every actor is where it should be", () => {
  for (const seed of only === undefined ? Array.from({ length: seeds }, (_, at) => `control ${at}`) : [only]) {
    it.effect(seed, () => run(seed), 120_000)
  }
})
