/**
 * The control plane of actors: which there are, which runner hosts which generation of each, and what is to become of them. It orders
 * (commands), hears (events) and remembers (`ActorStore.ts`); it knows no sockets and no frames.
 *
 * The hub brings runners and their events here and carries commands to them (`hub/rivet/ActorChannel.ts`); the actor API (`admin/ActorsApi.ts`) and
 * the gateway's `rvt-` queries create and find actors. The life of one actor is a pure table, `ActorLife.ts`; `ActorMachine.ts` and
 * `RunnerMoves.ts` are all moves on all of them, and `ControlLoop.ts` gives these time and a store. `docs/internals/actors.md` tells it in order.
 */
import { Context, Effect, Layer, type Scope } from "effect"
import { SessionId } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import {
  ActorError,
  type ActorRequest,
  type ActorView,
  type Placement,
  type RunnerIntroduction,
  type RunnerPort,
  type RunnerView
} from "./Actor.ts"
import { ActorMachine, type ActorMachineOptions, autostartKey } from "./ActorMachine.ts"
import type { Checkpoint, NumberedEvent } from "./ActorMessage.ts"
import type { ActorStore, ActorStoreError } from "./ActorStore.ts"
import { makeControlLoop } from "./ControlLoop.ts"
import type { Actor, Runner } from "./ControlState.ts"
import * as RivetId from "./RivetId.ts"
import { RunnerMoves } from "./RunnerMoves.ts"

export type {
  ActorRequest,
  ActorView,
  Placement,
  RunnerIntroduction,
  RunnerPort,
  RunnerView
} from "./Actor.ts"
export { ActorError, CrashPolicy } from "./Actor.ts"

/** Where actors are created, found, placed, woken and laid to rest. */
export class ActorControl extends Context.Service<
  ActorControl,
  {
    /** The identity of a runner by name and key: the same for as long as it was not lost and did not leave, another afterwards. */
    readonly identify: (runner: RunnerIntroduction) => Effect.Effect<SessionId>
    /**
     * The runner is connected and was told who it is: commands go to `port` until the scope closes or a newer connection attaches; first those it is
     * still owed. `commandsSeen`: what it is known to have received, where its dialect says; else empty.
     */
    readonly attach: (
      session: SessionId,
      runner: RunnerIntroduction,
      port: RunnerPort,
      commandsSeen: ReadonlyArray<Checkpoint>
    ) => Effect.Effect<void, never, Scope.Scope>
    /**
     * Events as they arrived; those of another runner's actors, of older generations, and those already heard are ignored. Returns what may be
     * acknowledged, once it is stored: at the end of the turn, some milliseconds later where the store syncs, after `actorCommitMs` nothing. So a read
     * loop forks this rather than waits for it; events take effect in the order in which the effects begin.
     */
    readonly heard: (
      session: SessionId,
      events: ReadonlyArray<NumberedEvent>
    ) => Effect.Effect<ReadonlyArray<Checkpoint>>
    /**
     * The runner has these commands. Where its version lists every actor that lives there each time (4 and later), an actor that is missing was lost:
     * give the whole list, once for each message.
     */
    readonly acknowledged: (session: SessionId, upTo: ReadonlyArray<Checkpoint>) => Effect.Effect<void>
    /** The runner takes nothing new; its actors are told to stop. */
    readonly draining: (session: SessionId) => Effect.Effect<void>
    /**
     * The runner is gone for good: its actors are lost, and dealt with by their crash policies. Its next identity is another. Where it did not say
     * before that it leaves, its actors may outlive it, and are given elsewhere only `runnerLostMs` after its connection ended.
     */
    readonly lost: (session: SessionId) => Effect.Effect<void>
    /** Whether this runner hosts the actor now: `null` where there is no such actor. Synchronous, for every KV request. */
    readonly hostsUnsafe: (session: SessionId, actorId: string) => boolean | null
    /** The generation that runs on the runner, for judging what it sends; undefined where none does. */
    readonly generationUnsafe: (session: SessionId, actorId: string) => number | undefined
    /** The actor said something over its runner's present connection: it answered a probe, or a request. Not for KV, which may be older than it seems. */
    readonly aliveUnsafe: (session: SessionId, actorId: string) => void
    /**
     * The runner did not answer for the actor as a living one would: a WebSocket was neither opened nor closed in its time. Believed only of an actor that
     * was not heard of since its runner last reconnected; that one is asked about (`RunnerPort.probe`), or stopped and started anew.
     */
    readonly suspect: (session: SessionId, actorId: string) => Effect.Effect<void>

    /** Waits until the actor can be reached, waking or starting it where needed; at most `actorReadyMs`. `wait: false`: placed is enough. */
    readonly place: (actorId: string, options: { readonly wait: boolean }) => Effect.Effect<Placement, ActorError>
    /**
     * The one actor of a runner name that nobody created an actor for; null where somebody did, where no such runner is known, or autostart is off.
     * Created on first use.
     */
    readonly autostart: (runnerName: string) => Effect.Effect<string | null, ActorError>

    readonly create: (request: ActorRequest) => Effect.Effect<ActorView, ActorError>
    /** `created` tells which. */
    readonly getOrCreate: (
      request: ActorRequest & { readonly key: string }
    ) => Effect.Effect<{ readonly actor: ActorView; readonly created: boolean }, ActorError>
    /** The living one of that name and key. */
    readonly find: (name: string, key: string) => Effect.Effect<ActorView, ActorError>
    /** Destroyed ones too, for as long as they are remembered. */
    readonly get: (actorId: string) => Effect.Effect<ActorView, ActorError>
    /** In the order of creation, at most `limit`, after `cursor` (an actor id); nothing where that actor is not remembered. */
    readonly list: (query: {
      readonly name?: string
      readonly includeDestroyed?: boolean
      readonly limit: number
      readonly cursor?: string
    }) => Effect.Effect<ReadonlyArray<ActorView>>
    /** Every actor name there is or was announced by a runner, with its JSON metadata. */
    readonly names: Effect.Effect<ReadonlyMap<string, string>>
    readonly destroy: (actorId: string) => Effect.Effect<void, ActorError>
    readonly sleep: (actorId: string) => Effect.Effect<void, ActorError>
    /** Moves it: stops this generation and starts the next, elsewhere if there is elsewhere. */
    readonly reschedule: (actorId: string) => Effect.Effect<void, ActorError>
    readonly runners: Effect.Effect<ReadonlyArray<RunnerView>>
  }
>()("wayleave/actor/ActorControl") {}

/** What a hub may choose for its control plane; the rest is as `tunnel/Limits.ts` has it. */
export interface ActorControlOptions extends Partial<ActorMachineOptions> {
  /** Whether visitors of a runner name reach one actor that is made for them, where nobody made any. On by default. */
  readonly autostart?: boolean
}

const viewActor = ({ createdAtMs, id, life, request }: Actor): ActorView => {
  const { state } = life
  return {
    actorId: id,
    name: request.name,
    key: request.key,
    runnerName: request.runnerName,
    crashPolicy: request.crashPolicy,
    createdAtMs,
    startedAtMs: life.startedAtMs,
    connectableAtMs: state._tag === "Running" ? state.sinceMs : null,
    sleptAtMs: state._tag === "Sleeping" ? state.sinceMs : null,
    pendingAllocationAtMs: state._tag === "Pending" ? state.sinceMs : null,
    rescheduleAtMs: state._tag === "BackingOff" ? state.untilMs : null,
    destroyedAtMs: state._tag === "Destroyed" ? state.sinceMs : null
  }
}

const viewRunner = (runner: Runner): RunnerView => ({
  ...runner.introduction,
  session: runner.session,
  remainingSlots: runner.slotsLeft,
  createdAtMs: runner.createdAtMs,
  lastSeenAtMs: runner.lastSeenAtMs,
  connected: runner.port !== undefined,
  drainingSinceMs: runner.drainingSinceMs,
  stoppedAtMs: runner.goneAtMs
})

const bytesOf = (text: string): number => Buffer.byteLength(text)

/** What is wrong with a request; undefined where nothing is. */
const faultOf = ({ input, key, name, runnerName }: ActorRequest): string | undefined => {
  for (const text of [name, runnerName]) {
    if (text === "" || bytesOf(text) > limits.actorNameBytesMax) {
      return `a name has 1 to ${limits.actorNameBytesMax} bytes`
    }
  }
  if (key !== null && bytesOf(key) > limits.actorKeyBytesMax) {
    return `a key has at most ${limits.actorKeyBytesMax} bytes`
  }
  if (input !== null && input.length > limits.actorInputBytesMax) {
    return `an input has at most ${limits.actorInputBytesMax} bytes`
  }
  return undefined
}

const refuse = (reason: ActorError["reason"], message: string) => Effect.fail(new ActorError({ reason, message }))
const notFound = refuse("actor.not_found", "there is no such actor")
const notStored = refuse("guard.overloaded", "the store of actors does not keep up")

const make = Effect.fnUntraced(function* ({ autostart = true, ...chosen }: ActorControlOptions) {
  const newUnique = yield* RivetId.NewUnique
  const machine = new ActorMachine({ ...limits, ...chosen })
  const moves = new RunnerMoves(machine, () => SessionId.make(Buffer.from(newUnique()).toString("hex")))
  const { move, stored } = yield* makeControlLoop(machine, moves)
  const { actors, runners } = machine

  /** What `body` moved is stored when this returns. */
  const lasting = <A, E>(body: Effect.Effect<A, E>): Effect.Effect<A, E | ActorError> =>
    Effect.flatMap(body, (result) => Effect.flatMap(stored, (lasts) => (lasts ? Effect.succeed(result) : notStored)))

  const living = (actorId: string): Actor | undefined => {
    const actor = actors.get(actorId)
    return actor === undefined || actor.life.state._tag === "Destroyed" ? undefined : actor
  }

  const order = (actorId: string, input: { readonly _tag: "Destroy" | "Sleep" | "Reschedule" }) =>
    lasting(
      Effect.suspend(() => {
        const actor = living(actorId)
        if (actor === undefined) return notFound
        move((now) => machine.interrupt(actor, input, now))
        return Effect.void
      })
    )

  const create = (request: ActorRequest): Effect.Effect<Actor, ActorError> =>
    Effect.suspend(() => {
      const fault = faultOf(request)
      if (fault !== undefined) return refuse("actor.invalid_request", fault)
      if (request.key !== null && actors.find(request.name, request.key) !== undefined) {
        return refuse("actor.duplicate_key", "an actor of that name and key exists")
      }
      machine.makeRoom(true)
      if (actors.isFull) return refuse("guard.overloaded", "there are as many actors as there may be")
      return Effect.succeed(move((now) => machine.create(RivetId.make(newUnique()), request, now)))
    })

  const noteTakeovers = (runner: Runner | undefined) => {
    // Once is a reconnect that came before the old connection was known to be dead. Three within a minute are two processes that each think themselves it.
    if (runner?.takeovers !== 3) return Effect.void
    return Effect.annotateLogs(
      Effect.logError(
        "two runner processes use one key, and take its connection from each other: give each a key of its own"
      ),
      { name: runner.introduction.name, key: runner.introduction.key }
    )
  }

  return ActorControl.of({
    identify: (introduction) => Effect.sync(() => move((now) => moves.identify(introduction, now))),
    attach: (session, introduction, port, commandsSeen) =>
      Effect.acquireRelease(
        Effect.sync(() => move((now) => moves.attach(session, introduction, port, commandsSeen, now))),
        (runner) => Effect.sync(() => runner !== undefined && move((now) => moves.detach(runner, port, now)))
      ).pipe(
        Effect.tap(noteTakeovers),
        Effect.tap((runner) => {
          if (runner !== undefined && introduction.totalSlots >= 1) return Effect.void
          const why = runner === undefined ? "there are too many runners" : "it has no slots"
          return Effect.annotateLogs(Effect.logWarning(`a runner is connected and given no actors: ${why}`), {
            name: introduction.name,
            key: introduction.key
          })
        }),
        Effect.andThen(Effect.asVoid(stored))
      ),
    heard: (session, events) =>
      Effect.suspend(() => {
        const acknowledged = move((now) => moves.heard(session, events, now))
        return Effect.map(stored, (lasts) => (lasts ? acknowledged : []))
      }),
    acknowledged: (session, upTo) => Effect.sync(() => move((now) => moves.acknowledged(session, upTo, now))),
    draining: (session) => Effect.sync(() => move((now) => moves.draining(session, now))),
    lost: (session) => Effect.sync(() => move((now) => moves.leave(session, now))),
    hostsUnsafe: (session, actorId) => {
      const actor = living(actorId)
      return actor === undefined ? null : actor.host?.session === session
    },
    generationUnsafe: (session, actorId) => {
      const actor = actors.get(actorId)
      return actor?.host?.session === session ? actor.life.generation : undefined
    },
    aliveUnsafe: (session, actorId) => {
      if (moves.isUnheard(session, actorId)) move(() => moves.alive(session, actorId))
    },
    suspect: (session, actorId) => Effect.sync(() => move((now) => moves.suspect(session, actorId, now))),
    place: (actorId, { wait }) =>
      Effect.suspend((): Effect.Effect<Placement, ActorError> => {
        const actor = living(actorId)
        if (actor === undefined) return notFound
        const placement = machine.reachable(actor, !wait)
        if (placement !== undefined) return Effect.succeed(placement)
        return Effect.callback<Placement, ActorError>((resume) => {
          const waiter = move((now) => machine.wait(actor, !wait, resume, now))
          if (waiter !== undefined) return Effect.sync(() => machine.leave(waiter))
          resume(refuse("guard.overloaded", "as many requests wait for actors as may"))
          return Effect.void
        })
      }),
    autostart: (runnerName) =>
      Effect.suspend((): Effect.Effect<string | null, ActorError> => {
        const pool = runners.poolIfAny(runnerName)
        if (!autostart || pool === undefined || pool.runners.size === 0 || pool.created > 0) return Effect.succeed(null)
        if (pool.autostarted !== undefined) return lasting(Effect.succeed(pool.autostarted.id))
        // Whoever made an actor of just that name and key for other runners has made it.
        if (actors.find(runnerName, autostartKey) !== undefined) return Effect.succeed(null)
        const request = {
          name: runnerName,
          key: autostartKey,
          runnerName,
          crashPolicy: "restart",
          input: null
        } as const
        return Effect.map(lasting(create(request)), ({ id }) => id)
      }),
    create: (request) => Effect.map(lasting(create(request)), viewActor),
    getOrCreate: (request) =>
      lasting(
        Effect.suspend((): Effect.Effect<{ readonly actor: ActorView; readonly created: boolean }, ActorError> => {
          const present = actors.find(request.name, request.key)
          if (present !== undefined) return Effect.succeed({ actor: viewActor(present), created: false })
          return Effect.map(create(request), (actor) => ({ actor: viewActor(actor), created: true }))
        })
      ),
    find: (name, key) =>
      Effect.suspend(() => {
        const actor = actors.find(name, key)
        return actor === undefined ? notFound : Effect.succeed(viewActor(actor))
      }),
    get: (actorId) =>
      Effect.suspend(() => {
        const actor = actors.get(actorId)
        return actor === undefined ? notFound : Effect.succeed(viewActor(actor))
      }),
    list: (query) => Effect.sync(() => actors.list(query).map(viewActor)),
    names: Effect.sync(() => actors.names),
    destroy: (actorId) => order(actorId, { _tag: "Destroy" }),
    sleep: (actorId) => order(actorId, { _tag: "Sleep" }),
    reschedule: (actorId) => order(actorId, { _tag: "Reschedule" }),
    runners: Effect.sync(() => Array.from(runners.all, viewRunner))
  })
})

/** The control plane on the store that is provided. It begins with what the store remembers, and fails where that cannot be read. */
export const layer = (options: ActorControlOptions = {}): Layer.Layer<ActorControl, ActorStoreError, ActorStore> =>
  Layer.effect(ActorControl, make(options))
