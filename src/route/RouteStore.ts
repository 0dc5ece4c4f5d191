/**
 * Which runner may answer which request. Issued when the opening frame is written to a runner, asked for every frame that comes back, cleared
 * when the last one was published, never before. `hub/Relay.ts` composes the three; `RouteTable.ts` is the table itself.
 */
import { Clock, Context, Effect, Layer, Schema } from "effect"
import type { RouteKey, SessionId } from "../tunnel/Envelope.ts"
import type { ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { type Claimant, type Refusal, type RouteCounts, RouteTable, type RouteTableOptions } from "./RouteTable.ts"

export type { Claimant, Refusal, RouteCounts, RouteState, RouteTableOptions } from "./RouteTable.ts"

/** The table is full. Evicting a live route instead would let one runner silence another. */
export class RouteTableFull extends Schema.TaggedError<RouteTableFull>()("RouteTableFull", {
  routesMax: Schema.Int
}) {}

/** The key is in use: its opening frame came twice, and the first was already given to a runner. */
export class RouteTaken extends Schema.TaggedError<RouteTaken>()("RouteTaken", {}) {}

/** The part of an answer that is judged. */
export interface Answer {
  readonly route: RouteKey
  readonly frame: ResponseFrame
}

/** Refusals are data, not failures: one bad frame must not fail its batch. `ending` holds the routes that terminal frames of the batch close. */
export interface Verdict<A extends Answer> {
  readonly admitted: ReadonlyArray<A>
  readonly ending: ReadonlyArray<RouteKey>
  readonly refused: ReadonlyArray<{ readonly answer: A; readonly reason: Refusal }>
}

/** Who may answer which request: decided here and nowhere else. `testing/RouteStoreContract.ts` says what every store owes. */
export class RouteStore extends Context.Service<
  RouteStore,
  {
    /** This connection speaks for its session from now on; every older one is fenced. */
    readonly adopt: (claimant: Claimant) => Effect.Effect<void>
    /** Opens `route` for `owner`. */
    readonly issue: (route: RouteKey, owner: SessionId) => Effect.Effect<void, RouteTableFull | RouteTaken>
    /** Judges a batch, O(1) per frame. An admitted terminal frame takes its route to Closing; a second one is Late. */
    readonly authorize: <A extends Answer>(claimant: Claimant, batch: ReadonlyArray<A>) => Effect.Effect<Verdict<A>>
    /** Closing → Closed, leaving tombstones: the terminal frames were published. */
    readonly clear: (routes: ReadonlyArray<RouteKey>) => Effect.Effect<void>
    /** Closing → Open: they were not, so the runner may send them again. */
    readonly reopen: (routes: ReadonlyArray<RouteKey>) => Effect.Effect<void>
    /** Open → HalfClosed: the gateway sent its abort or close; what the runner still says is Late. */
    readonly halfClose: (route: RouteKey) => Effect.Effect<void>
    /** Closes a route that was issued but could not be written to its runner. */
    readonly close: (route: RouteKey) => Effect.Effect<void>
    /** Closes every route of a lost session and returns those still awaited, so that their gateways can be told. */
    readonly revoke: (owner: SessionId) => Effect.Effect<ReadonlyArray<RouteKey>>
    /** Renews the lease of all routes of a gateway: it was heard of. */
    readonly renew: (gatewayId: number) => Effect.Effect<void>
    /** Ends what has run out; returns the live routes whose gateway's lease ended, so that their runners can be told. */
    readonly expire: Effect.Effect<ReadonlyArray<{ readonly route: RouteKey; readonly session: SessionId }>>
    /** How many routes are in each state. All zero at rest. */
    readonly counts: Effect.Effect<RouteCounts>
  }
>()("wayleave/route/RouteStore") {}

/** The service over one table, which its maker may inspect. The clock is taken once: asked for at every call, it costs as much as the table. */
export const fromTable = (table: RouteTable, routesMax: number, clock: Clock.Clock): RouteStore["Service"] => {
  // Monotonic, so that a wall clock put forward does not end every lease in one moment.
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  return {
    adopt: (claimant) => Effect.sync(() => table.adopt(claimant)),
    issue: (route, owner) =>
      Effect.suspend((): Effect.Effect<void, RouteTableFull | RouteTaken> => {
        const outcome = table.issue(route, owner, nowMs())
        switch (outcome) {
          case "Issued":
            return Effect.void
          case "Full":
            return Effect.fail(new RouteTableFull({ routesMax }))
          case "Taken":
            return Effect.fail(new RouteTaken())
        }
      }),
    authorize: <A extends Answer>(claimant: Claimant, batch: ReadonlyArray<A>) =>
      Effect.sync((): Verdict<A> => {
        const admitted: Array<A> = []
        const ending: Array<RouteKey> = []
        const refused: Array<{ readonly answer: A; readonly reason: Refusal }> = []
        for (const answer of batch) {
          const verdict = table.authorize(claimant, answer.route, answer.frame)
          switch (verdict) {
            case "Ending":
              ending.push(answer.route)
              admitted.push(answer)
              break
            case "Admitted":
              admitted.push(answer)
              break
            case "Unknown":
            case "Foreign":
            case "Late":
              refused.push({ answer, reason: verdict })
              break
          }
        }
        return { admitted, ending, refused }
      }),
    clear: (routes) =>
      Effect.sync(() => {
        const now = nowMs()
        for (const route of routes) table.clear(route, now)
      }),
    reopen: (routes) =>
      Effect.sync(() => {
        const now = nowMs()
        for (const route of routes) table.reopen(route, now)
      }),
    halfClose: (route) => Effect.sync(() => table.halfClose(route, nowMs())),
    close: (route) => Effect.sync(() => table.close(route, nowMs())),
    revoke: (owner) => Effect.sync(() => table.revoke(owner, nowMs())),
    renew: (gatewayId) => Effect.sync(() => table.renew(gatewayId, nowMs())),
    expire: Effect.sync(() => table.expire(nowMs())),
    counts: Effect.sync(() => table.stateCounts)
  }
}

/** The routes of one hub in its own memory, with bounds and spans of one's own. */
export const layerMemoryWith = (options: RouteTableOptions): Layer.Layer<RouteStore> =>
  Layer.effect(
    RouteStore,
    Clock.clockWith((clock) => Effect.sync(() => fromTable(new RouteTable(options), options.routesMax, clock)))
  )

/** The same as `tunnel/Limits.ts` has them: complete and bounded, the default. */
export const layerMemory: Layer.Layer<RouteStore> = layerMemoryWith(limits)
