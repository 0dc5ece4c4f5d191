/**
 * Which actor a request means that names none: `/gateway/NAME?rvt-…` asks for one by name and key, and may have it created. Reading the parameters
 * is here, and asking for it (`actor/ActorDirectory.ts`); the rest of the path is `ActorAddress.ts`.
 */
import { Effect } from "effect"
import type { ActorError, CrashPolicy } from "../actor/Actor.ts"
import type { ActorWish, FindActor } from "../actor/ActorDirectory.ts"
import type { BusError } from "../bus/MessageBus.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { isCbor } from "./Cbor.ts"
import { fromActorError, type Refusal, type RivetErrorCode } from "./RivetError.ts"

/** The prefix of the parameters that are the gateway's and never reach an app. */
export const prefix = "rvt-"

/** A query as it was asked. The parts of its key are joined and escaped as Rivet does; `create` is null for `get`. */
export interface ActorQuery extends ActorWish {
  readonly namespace: string
  readonly skipReadyWait: boolean
}

/** What is wrong with a query. */
export interface QueryFault {
  readonly _tag: "Fault"
  readonly refusal: Refusal
}

const fault = (rivet: RivetErrorCode, metadata?: Readonly<Record<string, string>>): QueryFault => ({
  _tag: "Fault",
  refusal: { code: "bad_request", rivet, ...(metadata && { metadata }) }
})

const strictText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** Percent-decoding as Rivet does it: what is no escape stays as it is, and only bytes that are no UTF-8 make it undefined. */
export const percentDecode = (text: string): string | undefined => {
  if (!/[%\x80-\uffff]/.test(text)) return text
  // A visitor's target holds one byte a character.
  const bytes = Buffer.from(
    text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    "latin1"
  )
  try {
    return strictText.decode(bytes)
  } catch {
    return undefined
  }
}

const known = [
  "namespace",
  "method",
  "key",
  "token",
  "skip-ready-wait",
  "pool",
  "runner",
  "input",
  "region",
  "crash-policy"
] as const
type Parameter = (typeof known)[number]

/** Whether a client asks not to wait until an actor is ready: four words are understood, and undefined is none of them. */
export const skipReadyWait = (word: string): boolean | undefined => {
  if (word === "true" || word === "1") return true
  return word === "false" || word === "0" ? false : undefined
}

/** The only datacentre there is. */
const region = "default"

const isOneOf = <A extends string>(words: ReadonlyArray<A>, word: string): word is A => words.includes(word as A)

/** The key of an actor as text: parts joined by `/`, an empty part and no parts at all told apart from each other and from any text. */
export const joinKey = (parts: ReadonlyArray<string>): string =>
  parts.length === 0
    ? "/"
    : parts.map((part) => (part === "" ? "\\0" : part.replace(/[\\/]/g, (char) => `\\${char}`))).join("/")

const readParameters = (raw: ReadonlyArray<string>): Map<Parameter, string> | QueryFault => {
  const found = new Map<Parameter, string>()
  const seen = new Set<string>()
  let unknown: string | undefined
  for (const part of raw) {
    const equals = part.indexOf("=")
    const key = equals < 0 ? part : part.slice(0, equals)
    const value = percentDecode((equals < 0 ? "" : part.slice(equals + 1)).replaceAll("+", " "))
    if (value === undefined) return fault("guard.query_invalid_percent_encoding", { name: key })
    if (seen.has(key)) return fault("guard.query_duplicate_param", { name: key })
    seen.add(key)
    const name = key.slice(prefix.length)
    if (isOneOf(known, name)) found.set(name, value)
    else unknown = key
  }
  return unknown === undefined ? found : fault("guard.query_invalid_params", { detail: `unknown parameter ${unknown}` })
}

const base64url = /^[\w-]*$/

const readInput = (text: string): Uint8Array | QueryFault => {
  if (!base64url.test(text) || text.length % 4 === 1) return fault("guard.query_invalid_base64_input")
  const bytes = Buffer.from(text, "base64url")
  // Bits that are left over have to be none, or two texts would stand for the same bytes.
  if (bytes.toString("base64url") !== text) return fault("guard.query_invalid_base64_input")
  return isCbor(bytes) ? bytes : fault("guard.query_invalid_cbor_input")
}

const policies: ReadonlyArray<CrashPolicy> = ["restart", "sleep", "destroy"]

const readCreate = (found: ReadonlyMap<Parameter, string>): ActorQuery["create"] | QueryFault => {
  const runnerName = found.get("pool") ?? found.get("runner")
  if (runnerName === undefined) return fault("guard.query_missing_pool")
  const encoded = found.get("input")
  const input = encoded === undefined ? null : readInput(encoded)
  if (input !== null && "_tag" in input) return input
  const crashPolicy = found.get("crash-policy") ?? "sleep"
  if (!isOneOf(policies, crashPolicy)) {
    return fault("guard.query_invalid_params", { detail: "rvt-crash-policy is restart, sleep or destroy" })
  }
  if ((found.get("region") ?? region) !== region) {
    return fault("guard.query_invalid_params", { detail: `the only rvt-region is ${region}` })
  }
  return { runnerName, crashPolicy, input }
}

/** Reads the name as it stands in the path, and the raw `rvt-` parts of the query. */
export const readQuery = (rawName: string, raw: ReadonlyArray<string>): ActorQuery | QueryFault => {
  const found = readParameters(raw)
  if ("_tag" in found) return found
  if (rawName.includes("@")) return fault("guard.query_path_token_syntax")
  const name = percentDecode(rawName)
  if (name === undefined) return fault("guard.query_invalid_percent_encoding", { name: "name" })
  if (name === "") return fault("guard.query_empty_actor_name")
  const namespace = found.get("namespace")
  const method = found.get("method")
  if (namespace === undefined || method === undefined) {
    return fault("guard.query_invalid_params", { detail: "rvt-namespace and rvt-method are required" })
  }
  const skips = skipReadyWait(found.get("skip-ready-wait") ?? "false")
  if (skips === undefined) {
    return fault("guard.query_invalid_params", { detail: "rvt-skip-ready-wait is true, 1, false or 0" })
  }
  const parts = found.get("key")
  const asked = {
    namespace,
    name,
    skipReadyWait: skips,
    key: joinKey(parts === undefined || parts === "" ? [] : parts.split(","))
  }
  switch (method) {
    case "get": {
      const extra = (["input", "region", "crash-policy", "runner"] as const).some((parameter) => found.has(parameter))
      return extra ? fault("guard.query_get_disallowed_params") : { ...asked, create: null }
    }
    case "getOrCreate": {
      const create = readCreate(found)
      return create !== null && "_tag" in create ? create : { ...asked, create }
    }
    default:
      return fault("guard.query_invalid_params", { detail: "rvt-method is get or getOrCreate" })
  }
}

const tooSlow: Refusal = { code: "actor_not_ready", rivet: "pegboard.route_resolve_query_timeout" }

const fromBus = ({ reason }: BusError): Refusal => {
  switch (reason) {
    case "NoResponders":
      return { code: "no_runner" }
    case "Full":
      return { code: "overloaded" }
    case "Timeout":
    case "Disconnected":
      return tooSlow
    case "Unsendable":
      return { code: "bad_request", rivet: "actor.invalid_request" }
  }
  return absurd(reason)
}

const refusalOf = (error: ActorError | BusError): Refusal =>
  error._tag === "ActorError" ? fromActorError(error) : fromBus(error)

/** The id of the actor that is meant. */
export const resolve = (find: FindActor, namespace: string, query: ActorQuery): Effect.Effect<string, Refusal> =>
  query.namespace === namespace
    ? find(query).pipe(
        Effect.mapError(refusalOf),
        Effect.timeoutOrElse({ duration: limits.queryMs, orElse: () => Effect.fail(tooSlow) })
      )
    : Effect.fail({ code: "bad_request", rivet: "namespace.not_found" })
