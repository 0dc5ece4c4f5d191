/**
 * Which app a visitor means: `NAME.DOMAIN[:PORT]` in the host, or the header `x-wayleave-name` on any host. Names are compared in lower case,
 * because hosts are. Where neither names one, `ActorAddress.ts` looks for an actor.
 */
import type { VisitorHead } from "./Visitor.ts"

/** The header that names a runner on any host; never forwarded. */
export const nameHeader = "x-wayleave-name"

/**
 * `None`: the host is not one of ours, or the bare domain. `Ambiguous`: two hosts or names, or a target in a form that no request may have: an
 * app behind might read either differently.
 */
export type NameFound =
  | { readonly _tag: "Found"; readonly name: string; readonly host: string; readonly target: string }
  | { readonly _tag: "None"; readonly host: string; readonly target: string }
  | { readonly _tag: "Ambiguous" }

const ambiguous: NameFound = { _tag: "Ambiguous" }

/** Beyond a DNS name nothing can be a name; it also keeps subjects short. */
const nameBytesMax = 253
const wellFormed = /^[^\s\p{Cc}/\\]+$/u

/** A host without its port and final dot, in lower case. */
export const hostName = (authority: string): string => {
  const bracket = authority.lastIndexOf("]")
  const colon = authority.lastIndexOf(":")
  const host = colon > bracket ? authority.slice(0, colon) : authority
  return (host.endsWith(".") ? host.slice(0, -1) : host).toLowerCase()
}

const absolute = /^https?:\/\/([^/?]*)(.*)$/i

interface Target {
  readonly authority: string | undefined
  readonly target: string
}

/** Splits an absolute-form target (RFC 9112, 3.2.2) into its host and the origin-form that goes on; undefined where the target has no form of those. */
const splitTarget = (method: string, target: string): Target | undefined => {
  if (target.startsWith("/") || (target === "*" && method === "OPTIONS")) return { authority: undefined, target }
  const match = absolute.exec(target)
  if (match === null) return undefined
  const rest = match[2] as string
  const authority = match[1] as string
  return {
    authority: authority.slice(authority.lastIndexOf("@") + 1),
    target: rest.startsWith("/") ? rest : `/${rest}`
  }
}

/** Finds the name. The target comes back in origin-form, the host as the visitor wrote it. */
export const runnerName = (head: VisitorHead, domain: string): NameFound => {
  let host: string | undefined
  let named: string | undefined
  for (const [key, value] of head.headers) {
    if (key.length === 4 && key.toLowerCase() === "host") {
      if (host !== undefined) return ambiguous
      host = value.trim()
    } else if (key.length === nameHeader.length && key.toLowerCase() === nameHeader) {
      if (named !== undefined) return ambiguous
      named = value.trim().toLowerCase()
    }
  }
  const split = splitTarget(head.method, head.target)
  if (split === undefined) return ambiguous
  const { authority, target } = split
  const asked = authority ?? host ?? ""
  if (named !== undefined) return judged(named, asked, target)
  const bare = hostName(asked)
  if (!bare.endsWith(`.${domain}`)) return { _tag: "None", host: asked, target }
  return judged(bare.slice(0, -domain.length - 1), asked, target)
}

const judged = (name: string, host: string, target: string): NameFound => {
  const isName = name.length > 0 && name.length <= nameBytesMax && wellFormed.test(name)
  if (!isName) return { _tag: "None", host, target }
  // A fragment is never sent (RFC 9112, 3.2).
  return target.includes("#") ? ambiguous : { _tag: "Found", name, host, target }
}
