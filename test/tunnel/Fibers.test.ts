import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { makeFork } from "../../src/tunnel/Fibers.ts"

it.effect("fibers of a scope are interrupted with it, and awaited, whatever ended before", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const fork = yield* Scope.provide(makeFork, scope)
    const ends: Array<number> = []
    const gates = yield* Effect.forEach([0, 1, 2, 3], () => Deferred.make<void>())
    const fibers = gates.map((gate, i) =>
      fork(
        Effect.onInterrupt(Deferred.await(gate), () =>
          Effect.andThen(
            Effect.yieldNow,
            Effect.sync(() => void ends.push(i))
          )
        )
      )
    )
    for (const i of [1, 3]) yield* Deferred.succeed(gates[i] as Deferred.Deferred<void>, undefined)
    for (const i of [1, 3]) yield* Fiber.join(fibers[i] as Fiber.Fiber<void>)
    yield* Scope.close(scope, Exit.void)
    assert.deepStrictEqual(ends.sort(), [0, 2])
  })
)

it.effect("what is forked after the scope has closed does not run", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const fork = yield* Scope.provide(makeFork, scope)
    yield* Scope.close(scope, Exit.void)
    let ran = false
    const fiber = fork(Effect.sync(() => void (ran = true)))
    assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
    assert.isFalse(ran)
  })
)
