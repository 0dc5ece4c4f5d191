/**
 * Spells every subject there is, from namespace, name and id. Names come from visitors: they are encoded so that `.`, `*`, `>`, blanks and
 * control characters cannot leave their token or match another's.
 */
import { createHash } from "node:crypto"

/** A subject as NATS knows it: tokens separated by dots. */
export type Subject = string

const safe = /^[a-z0-9_-]+$/
/** A server takes no line longer than 4096 bytes, and a subject may stand in it twice. Every name that a runner may have is far below. */
const tokenLengthMax = 512

/**
 * One token for any text: lower-case letters, digits, `-` and `_` as they are where that is all, else `=` and the UTF-8 bytes in
 * hexadecimal. `=` starts no plain token, so no two texts share one. What would be too long for a server is `==` and its SHA-256 instead.
 */
export const token = (text: string): string => {
  const plain = safe.test(text) ? text : `=${Buffer.from(text, "utf8").toString("hex")}`
  return plain.length <= tokenLengthMax ? plain : `==${createHash("sha256").update(plain).digest("hex")}`
}

/** Where opening frames for a runner name go: one of the hubs that hold a session by that name takes each. */
export const ofName = (namespace: string, name: string): Subject => `wayleave.${token(namespace)}.name.${token(name)}`

/** Where they go when no hub holds a runner of that name: to one that keeps the place of a runner whose connection broke. */
export const ofAway = (namespace: string, name: string): Subject => `wayleave.${token(namespace)}.away.${token(name)}`

/** Where opening frames for actors go, and what wakes them: to the hub that controls the actors of the namespace. */
export const ofActors = (namespace: string): Subject => `wayleave.${token(namespace)}.actors`

/** Where whoever controls the actors of a namespace says so, and is asked. */
export const ofActorClaim = (namespace: string): Subject => `wayleave.${token(namespace)}.claim`

/** Where one hub takes the frames of streams it has opened. */
export const ofHub = (namespace: string, hubId: string): Subject => `wayleave.${token(namespace)}.hub.${token(hubId)}`

/** Where the gateways of a namespace take replies, each by its id: for whoever publishes to many, and often. */
export const ofGateways = (namespace: string): ((gatewayId: number) => Subject) => {
  const prefix = `wayleave.${token(namespace)}.gateway.`
  return (gatewayId) => prefix + gatewayId.toString(16).padStart(8, "0")
}

/**
 * Where the hubs that hold a session hear of newer connections of it elsewhere. Not by the id itself, which is a secret: a bus shows its subjects to
 * whoever watches it.
 */
export const ofSession = (namespace: string, sessionId: string): Subject =>
  `wayleave.${token(namespace)}.session.${createHash("sha256").update(sessionId).digest("hex").slice(0, 32)}`

/** Where one gateway takes replies. */
export const ofGateway = (namespace: string, gatewayId: number): Subject => ofGateways(namespace)(gatewayId)

/**
 * How what is meant for a subject travels on a server: to `each` subscriber, to `one` of them, or as a question (`ask`), and in which
 * `layout`. Members of a cluster that would misread each other so never hear each other either.
 */
export const onServer = (subject: Subject, kind: "each" | "one" | "ask", layout: string): Subject =>
  `${subject}.${kind}.${layout}`
