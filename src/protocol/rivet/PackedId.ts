/**
 * How a route fits into the 16-byte ids of versions 1 and 2. A runner repeats a request's id as it got it, so the route travels inside and no
 * table is needed; a runner that makes one up names a route it was never issued, and is refused where every frame is.
 *
 * Up to 14 bytes of content lie around two constant ones, which make the whole look like a version 4 UUID: 0x40 at 6, 0x80 at 8.
 */
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { idBytes, idNumber } from "./TunnelFrame.ts"

const places = [0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 13, 14, 15] as const

/** Content as a UUID-shaped id; what is missing up to 14 bytes is zero. */
export const pack = (content: Uint8Array): Uint8Array => {
  const id = new Uint8Array(16)
  id[6] = 0x40
  id[8] = 0x80
  for (const [i, place] of places.entries()) id[place] = content[i] ?? 0
  return id
}

/** The 14 bytes of content, whatever the two constant ones are: upstream does not look at them either. */
export const unpack = (id: Uint8Array): Uint8Array => Uint8Array.from(places, (place) => id[place] as number)

const content = (route: RouteKey): Array<number> => [...idBytes(route.gatewayId), ...idBytes(route.requestId)]

/** A request's id: its route, and zeros. */
export const packRequestId = (route: RouteKey): Uint8Array => pack(Uint8Array.from(content(route)))

/** A message's id: its route and its index, little-endian. */
export const packMessageId = (route: RouteKey, index: number): Uint8Array =>
  pack(Uint8Array.from([...content(route), index & 0xff, index >>> 8]))

/** The route inside a request's id. */
export const unpackRoute = (id: Uint8Array): RouteKey => {
  const inside = unpack(id)
  return { gatewayId: idNumber(inside), requestId: idNumber(inside, 4) }
}

/** The index inside a message's id of ours. A runner's own message ids are random and hold none. */
export const unpackIndex = (id: Uint8Array): number => {
  const inside = unpack(id)
  return (inside[8] as number) | ((inside[9] as number) << 8)
}
