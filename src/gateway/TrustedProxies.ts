/**
 * Whose word about a visitor is believed: addresses and CIDR blocks, IPv4 and IPv6. Pure, so that the gateway needs no platform for it.
 */

/** An address as a number with its width in bits; an IPv4 address inside IPv6 counts as IPv4. */
interface Address {
  readonly bits: 32 | 128
  readonly value: bigint
}

const parseV4 = (text: string): bigint | undefined => {
  const parts = text.split(".")
  if (parts.length !== 4) return undefined
  let value = 0n
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return undefined
    value = (value << 8n) | BigInt(part)
  }
  return value
}

const groups = (text: string): Array<string> | undefined => {
  if (text === "") return []
  const parts = text.split(":")
  const last = parts[parts.length - 1] as string
  if (!last.includes(".")) return parts
  const v4 = parseV4(last)
  if (v4 === undefined) return undefined
  return [...parts.slice(0, -1), (v4 >> 16n).toString(16), (v4 & 0xffffn).toString(16)]
}

const parseV6 = (text: string): bigint | undefined => {
  const halves = text.split("::")
  if (halves.length > 2) return undefined
  const left = groups(halves[0] as string)
  const right = halves.length === 2 ? groups(halves[1] as string) : []
  if (left === undefined || right === undefined) return undefined
  const missing = 8 - left.length - right.length
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined
  let value = 0n
  for (const group of [...left, ...Array<string>(missing).fill("0"), ...right]) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined
    value = (value << 16n) | BigInt(`0x${group}`)
  }
  return value
}

const mapped = 0xffffn

const parseAddress = (text: string): Address | undefined => {
  const plain = text.replace(/^\[|\]$|%.*$/g, "")
  const v4 = parseV4(plain)
  if (v4 !== undefined) return { bits: 32, value: v4 }
  const v6 = parseV6(plain)
  if (v6 === undefined) return undefined
  return v6 >> 32n === mapped ? { bits: 32, value: v6 & 0xffff_ffffn } : { bits: 128, value: v6 }
}

/** Whether a peer's address is one of the proxies. */
export type TrustProxy = (address: string) => boolean

/** Which entries are neither an address nor a block: a configuration that names one is refused rather than half obeyed. */
export const unreadableProxies = (entries: ReadonlyArray<string>): ReadonlyArray<string> =>
  entries.filter((entry) => parseBlock(entry) === undefined)

const parseBlock = (entry: string): { readonly address: Address; readonly shift: bigint } | undefined => {
  const [text, prefix, ...more] = entry.trim().split("/")
  const address = parseAddress(text as string)
  if (address === undefined || more.length > 0) return undefined
  if (prefix === undefined) return { address, shift: 0n }
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > address.bits) return undefined
  return { address, shift: BigInt(address.bits - Number(prefix)) }
}

/** The check for a list of addresses and blocks. An empty list trusts nobody, which is the default. */
export const trustProxies = (entries: ReadonlyArray<string>): TrustProxy => {
  const blocks = entries.map(parseBlock).filter((block) => block !== undefined)
  if (blocks.length === 0) return () => false
  return (text) => {
    const peer = parseAddress(text)
    if (peer === undefined) return false
    return blocks.some(
      ({ address, shift }) => address.bits === peer.bits && address.value >> shift === peer.value >> shift
    )
  }
}
