/**
 * What turns the moves of `ActorMachine.ts` into a service: time, one fiber that stores what has changed and then lets leave what it leads to, and
 * one that waits for whatever is due next. Changes of one turn are stored together, so that the rate of events is not the rate of writes.
 */
import { Clock, Deferred, Effect, Latch, Option, Schedule } from "effect"
import { Complaints } from "../protocol/Complaints.ts"
import { limits } from "../tunnel/Limits.ts"
import { Soon, Turn } from "../tunnel/Turn.ts"
import { ActorKv } from "./ActorKv.ts"
import type { State } from "./ActorLife.ts"
import type { ActorMachine } from "./ActorMachine.ts"
import * as ActorMetrics from "./ActorMetrics.ts"
import { ActorStore } from "./ActorStore.ts"
import type { RunnerMoves } from "./RunnerMoves.ts"

/** The running control plane, as its service uses it. */
export interface ControlLoop {
  /** Makes one move, now, and sees to whatever it leads to. */
  readonly move: <A>(body: (now: number) => A) => A
  /** Until all that was moved so far is stored; false where that takes too long. */
  readonly stored: Effect.Effect<boolean>
}

const storing = Effect.gen(function* () {
  const store = yield* ActorStore
  const kv = yield* Effect.serviceOption(ActorKv)
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const complaints = new Complaints(limits.abuseWindowMs)
  const retry = Schedule.spaced(limits.actorStoreRetryMs)

  const complain = (kind: string, cause: unknown) =>
    Effect.suspend(() => {
      ActorMetrics.storeFailures.updateUnsafe(1, context)
      const times = complaints.note(kind, clock.currentTimeMillisUnsafe())
      return times === 0 ? Effect.void : Effect.annotateLogs(Effect.logError(kind), { cause, times })
    })

  /** What a forgotten actor kept goes before the last that is known of it: else nobody would know that it is there. */
  const dropKv = (forgotten: ReadonlyArray<string>) => {
    if (Option.isNone(kv) || forgotten.length === 0) return Effect.void
    return Effect.forEach(
      forgotten,
      (actorId) =>
        kv.value
          .ask(actorId, { _tag: "Drop" })
          .pipe(Effect.catch(({ cause }) => complain("the store of a destroyed actor cannot be dropped", cause))),
      { discard: true }
    )
  }

  const write = (attempt: Parameters<typeof store.write>[0]) =>
    store.write(attempt).pipe(
      Effect.tapError(({ cause }) => complain("actors cannot be stored, and none is started or stopped", cause)),
      Effect.retry(retry),
      Effect.orDie
    )
  return { store, dropKv, write }
})

/** Tells the metrics what has become of actors since it last did. */
const makeCounting = (machine: ActorMachine) =>
  Effect.map(Effect.context<never>(), (context) => {
    let starts = 0
    let crashes = 0
    return () => {
      ActorMetrics.starts.updateUnsafe(machine.starts - starts, context)
      ActorMetrics.crashes.updateUnsafe(machine.crashes - crashes, context)
      starts = machine.starts
      crashes = machine.crashes
      ActorMetrics.waiters.updateUnsafe(machine.waiting, context)
      for (const state of Object.keys(machine.counts) as Array<State["_tag"]>) {
        ActorMetrics.actorsBy[state].updateUnsafe(machine.counts[state], context)
      }
    }
  })

/** Loads what an earlier process left and keeps the machine going until the scope ends. */
export const makeControlLoop = Effect.fnUntraced(function* (machine: ActorMachine, moves: RunnerMoves) {
  const { dropKv, store, write } = yield* storing
  const count = yield* makeCounting(machine)
  const clock = yield* Clock.Clock
  const turn = yield* Turn
  const soon = yield* Soon
  const wallMs = () => clock.currentTimeMillisUnsafe()
  const elapsedMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  // Deadlines go by a clock that begins at the wall's time and is never put forward or back; only alarms follow the wall.
  const beganMs = wallMs() - elapsedMs()
  const nowMs = () => Math.floor(beganMs + elapsedMs())

  const work = yield* Latch.make(false)
  const earlier = yield* Latch.make(false)
  let awake = false
  let telling = false
  let armedDeadline = Number.POSITIVE_INFINITY
  let armedAlarm = Number.POSITIVE_INFINITY
  /** Of what is not stored yet; and of what is being stored. */
  let next = Deferred.makeUnsafe<void>()
  let present: Deferred.Deferred<void> | undefined

  const tell = () => {
    telling = false
    const { outcomes } = machine
    machine.outcomes = []
    for (const outcome of outcomes) outcome()
  }

  const follow = () => {
    if (machine.outcomes.length > 0 && !telling) {
      telling = true
      // A waiter goes on at once when it is told, and may come back with a move of its own: not in the middle of this one.
      soon(tell)
    }
    if (machine.outbox.pending && !awake) {
      awake = true
      turn(() => work.openUnsafe())
    }
    if (
      (machine.deadlines.nextMs ?? Number.POSITIVE_INFINITY) < armedDeadline ||
      (machine.alarms.nextMs ?? Number.POSITIVE_INFINITY) < armedAlarm
    ) {
      earlier.openUnsafe()
    }
  }

  const move = <A>(body: (now: number) => A): A => {
    const now = nowMs()
    const result = body(now)
    machine.settle(now)
    follow()
    return result
  }

  const storeAndSend = Effect.gen(function* () {
    const { changed } = machine.outbox
    const { changes, letters } = machine.outbox.take(wallMs())
    const done = next
    if (changed) {
      present = done
      next = Deferred.makeUnsafe()
      yield* dropKv(changes.forgotten)
      yield* write(changes)
      present = undefined
      Deferred.doneUnsafe(done, Effect.void)
    }
    move((now) => machine.deliver(letters, now))
    count()
    return changed
  })

  const storer = Effect.gen(function* () {
    yield* work.await
    work.closeUnsafe()
    awake = false
    const wrote = yield* storeAndSend
    if (wrote && store.gatherMs > 0) yield* Effect.sleep(store.gatherMs)
  }).pipe(
    Effect.catchCause((cause) => Effect.logError("the control plane of actors stumbled", cause)),
    Effect.forever
  )

  let beatMs = nowMs()
  const fire = () =>
    move((now) => {
      for (let timer = machine.due(now, wallMs()); timer !== undefined; timer = machine.due(now, wallMs())) {
        if (timer.what === "Runner") moves.fire(timer.of, now)
        else machine.fireActor(timer, now)
      }
      if (now - beatMs < limits.actorBeatMs) return
      beatMs = now
      if (moves.connected > 0) machine.outbox.beat()
    })

  const waiter = Effect.gen(function* () {
    armedDeadline = machine.deadlines.nextMs ?? Number.POSITIVE_INFINITY
    armedAlarm = machine.alarms.nextMs ?? Number.POSITIVE_INFINITY
    earlier.closeUnsafe()
    const delayMs = Math.min(armedDeadline - nowMs(), armedAlarm - wallMs(), limits.actorBeatMs)
    yield* Effect.timeoutOption(earlier.await, Math.max(0, delayMs))
    fire()
  }).pipe(
    Effect.catchCause((cause) => Effect.logError("the control plane of actors stumbled", cause)),
    Effect.forever
  )

  moves.load(yield* store.load, nowMs())
  // Once the two fibers below have ended: what is known and not stored yet. What is forgotten stays: its own store was not dropped.
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => store.write({ ...machine.outbox.take(wallMs()).changes, forgotten: [] })).pipe(
      Effect.interruptible,
      Effect.timeoutOption(limits.actorCommitMs),
      Effect.ignore
    )
  )
  yield* Effect.forkScoped(storer)
  yield* Effect.forkScoped(waiter)
  move(() => {})

  const loop: ControlLoop = {
    move,
    stored: Effect.suspend(() => {
      const pending = machine.outbox.changed ? next : present
      if (pending === undefined) return Effect.succeed(true)
      return Effect.map(Effect.timeoutOption(Deferred.await(pending), limits.actorCommitMs), Option.isSome)
    })
  }
  return loop
})
