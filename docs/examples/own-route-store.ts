/**
 * A route store of your own: the one in memory, with an account of what it decided. Who may answer which request is decided here and
 * nowhere else, so this is where an audit, a quota or a store shared by several hubs belongs.
 */
import { Context, Effect, Layer } from "effect"
import { RouteStore } from "wayleave/hub"

/** One decision: a route was issued, or an answer was refused. */
export interface AuditEntry {
  readonly route: string
  readonly decision: "Issued" | RouteStore.Refusal
}

/** What the store has decided lately. */
export class RouteAudit extends Context.Service<
  RouteAudit,
  {
    readonly entries: Effect.Effect<ReadonlyArray<AuditEntry>>
  }
>()("example/RouteAudit") {}

/** Older entries are forgotten: an account that grows for ever is a leak. */
const entriesMax = 1_000

/** Gives the hub a `RouteStore`, and the rest of the program the account. */
export const layerAudited: Layer.Layer<RouteStore.RouteStore | RouteAudit> = Layer.effectContext(
  Effect.gen(function* () {
    const inner = yield* RouteStore.RouteStore
    const entries: Array<AuditEntry> = []
    const note = (
      route: { readonly gatewayId: number; readonly requestId: number },
      decision: AuditEntry["decision"]
    ) => {
      entries.push({ route: `${route.gatewayId}/${route.requestId}`, decision })
      if (entries.length > entriesMax) entries.shift()
    }
    const audited = RouteStore.RouteStore.of({
      ...inner,
      issue: (route, owner) => Effect.tap(inner.issue(route, owner), () => Effect.sync(() => note(route, "Issued"))),
      authorize: (claimant, batch) =>
        Effect.tap(inner.authorize(claimant, batch), ({ refused }) =>
          Effect.sync(() => {
            for (const { answer, reason } of refused) note(answer.route, reason)
          })
        )
    })
    return Context.make(RouteStore.RouteStore, audited).pipe(
      Context.add(RouteAudit, { entries: Effect.sync(() => [...entries]) })
    )
  })
).pipe(Layer.provide(RouteStore.layerMemory))
