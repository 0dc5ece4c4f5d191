/**
 * Spells every subject there is, from namespace, name and id. Names come from visitors: they are encoded so that `.`, `*`, `>`, blanks and
 * control characters cannot leave their token or match another's.
 */

/** A subject as NATS knows it: tokens separated by dots. */
export type Subject = string

const safe = /^[a-z0-9_-]+$/

/**
 * One token for any text: lower-case letters, digits, `-` and `_` as they are where that is all, else `=` and the UTF-8 bytes in
 * hexadecimal. `=` starts no plain token, so no two texts share one.
 */
export const token = (text: string): string =>
  safe.test(text) ? text : `=${Buffer.from(text, "utf8").toString("hex")}`

/** Where opening frames for a runner name go: one of the hubs that hold a session by that name takes each. */
export const ofName = (namespace: string, name: string): Subject => `wayleave.${token(namespace)}.name.${token(name)}`

/** Where one hub takes the frames of streams it has opened. */
export const ofHub = (namespace: string, hubId: string): Subject => `wayleave.${token(namespace)}.hub.${token(hubId)}`

/** Where the gateways of a namespace take replies, each by its id: for whoever publishes to many, and often. */
export const ofGateways = (namespace: string): ((gatewayId: number) => Subject) => {
  const prefix = `wayleave.${token(namespace)}.gateway.`
  return (gatewayId) => prefix + gatewayId.toString(16).padStart(8, "0")
}

/** Where one gateway takes replies. */
export const ofGateway = (namespace: string, gatewayId: number): Subject => ofGateways(namespace)(gatewayId)
