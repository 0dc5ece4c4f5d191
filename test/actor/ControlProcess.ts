/**
 * A process with a control plane on a file and one runner, which creates actors, lets them run, sleep and wake, and says in lines what has left:
 * for `ActorKill.test.ts`, which kills it.
 */
import { Effect, Layer } from "effect"
import { ActorControl, layer, type RunnerPort } from "../../src/actor/ActorControl.ts"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"
import type { Event, NumberedCommand } from "../../src/actor/ActorMessage.ts"
import * as ActorStoreSqlite from "../../src/actor/ActorStoreSqlite.ts"

const [file] = process.argv.slice(2) as [string]
const introduction = {
  name: "pool",
  key: "key",
  version: 1,
  totalSlots: 1_000,
  protocolVersion: 7,
  actorNames: new Map<string, string>(),
  metadata: null
}

const program = Effect.gen(function* () {
  const control = yield* ActorControl
  const session = yield* control.identify(introduction)
  process.stdout.write(`session ${session}\n`)
  const inbox: Array<NumberedCommand> = []
  const port: RunnerPort = {
    command: (commands) => {
      for (const { checkpoint, command } of commands) {
        // Written at once: what is not in the pipe when the process is killed never left.
        if (command._tag === "StartActor")
          process.stdout.write(`start ${checkpoint.actorId} ${checkpoint.generation}\n`)
      }
      inbox.push(...commands)
    },
    ended: () => {}
  }
  yield* control.attach(session, introduction, port, [])
  const turn = Effect.callback<void>((resume) => {
    setImmediate(() => resume(Effect.void))
  })
  const sleepers: Array<string> = []
  for (let made = 0; ; ) {
    if (made < 200) {
      const { actorId } = yield* control.create({
        name: "counter",
        key: `${process.pid} ${made++}`,
        runnerName: "pool",
        crashPolicy: "restart",
        input: null
      })
      process.stdout.write(`created ${actorId}\n`)
    }
    for (const { checkpoint, command } of inbox.splice(0)) {
      const say = (index: bigint, event: Event) =>
        control.heard(session, [{ checkpoint: { ...checkpoint, index }, event }])
      if (command._tag === "StartActor") {
        yield* Effect.forkChild(Effect.andThen(say(0n, { _tag: "Running" }), say(1n, { _tag: "WantsSleep" })))
      } else {
        sleepers.push(checkpoint.actorId)
        yield* Effect.forkChild(say(2n, { _tag: "Stopped", failed: true, message: null }))
      }
    }
    yield* turn
    const wanted = sleepers.splice(0, 5)
    for (const actorId of wanted) {
      yield* Effect.forkChild(Effect.ignore(control.place(actorId, { wait: false })))
    }
  }
})

Effect.runFork(
  program.pipe(
    Effect.scoped,
    Effect.provide(layer().pipe(Layer.provide(ActorStoreSqlite.layer), Layer.provide(ActorDatabase.layer({ file }))))
  )
)
