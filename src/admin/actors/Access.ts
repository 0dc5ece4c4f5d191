/**
 * Who asks the actor API, and for which runners: a token, as `x-rivet-token` or `Authorization: Bearer`, covers runner names, and with them
 * the actors of these runners. Where the server has no tokens everybody may do everything, as everybody may serve.
 *
 * A good token is let in whatever it covers; handlers then ask the `Caller` about the runner at hand.
 */
import { Context, Effect, Layer, Option, Redacted } from "effect"
import { HttpApiMiddleware, HttpApiSecurity } from "effect/http-api"
import { Authenticator } from "../../auth/Authenticator.ts"
import { fail, failures } from "./Failure.ts"

/** Who asked. */
export class Caller extends Context.Service<
  Caller,
  {
    /** Whether the caller's token covers runners of this name. */
    readonly covers: (runnerName: string) => Effect.Effect<boolean>
    /** Whether it covers every name there can be. */
    readonly coversAll: Effect.Effect<boolean>
  }
>()("wayleave/admin/Caller") {}

/** Lets in those with a good token, and says who they are. */
export class Access extends HttpApiMiddleware.Service<Access, { provides: Caller }>()("wayleave/admin/Access", {
  error: failures,
  security: {
    token: HttpApiSecurity.apiKey({ in: "header", key: "x-rivet-token" }),
    bearer: HttpApiSecurity.bearer
  }
}) {}

// Grants end in `*` where they cover all that begins so: only one for everything covers the star alone.
const everyName = "*"
// No runner has this name, so a good token is at most forbidden it.
const noName = ""

/** Asks the authenticator that runners are asked by. */
export const layer: Layer.Layer<Access, never, Authenticator> = Layer.effect(
  Access,
  Effect.gen(function* () {
    const authenticator = yield* Authenticator
    const callerOf = Effect.fnUntraced(function* (credential: Redacted.Redacted<string>) {
      const given = Redacted.value(credential)
      const token = given === "" ? Option.none() : Option.some(credential)
      const ask = (name: string) => Effect.result(authenticator.authenticate(token, name))
      const known = yield* ask(noName)
      if (known._tag === "Failure" && known.failure.reason === "Unauthorized") {
        return yield* fail("api.unauthorized", "a valid token is asked for: as x-rivet-token, or Authorization: Bearer")
      }
      const covers = (name: string) => Effect.map(ask(name), (verdict) => verdict._tag === "Success")
      return Caller.of({ covers, coversAll: covers(everyName) })
    })
    const judge = <A, E, R>(
      answer: Effect.Effect<A, E, R | Caller>,
      { credential }: { readonly credential: Redacted.Redacted<string> }
    ) => Effect.flatMap(callerOf(credential), (caller) => Effect.provideService(answer, Caller, caller))
    return { token: judge, bearer: judge }
  })
)

/** `NAME:PORT` or `[ADDRESS]:PORT` without its port, in small letters. */
const nameIn = (host: string): string => host.toLowerCase().replace(/:\d*$/, "")

const loopback = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

/**
 * Whether a request is addressed to this machine, or to one of these names. Where there are no tokens, a page of anybody's whose name was made to lead
 * to this machine would else be no other origin, and may do everything.
 */
export const isAddressedHere = (host: string | undefined, names: ReadonlyArray<string>): boolean => {
  if (host === undefined) return false
  const name = nameIn(host)
  return loopback.test(name) || names.some((known) => known.toLowerCase() === name)
}
