/**
 * Routes that are over, remembered so that a late frame is not taken for a forged one: the key and whose it was, in the order of their closing.
 * Everything here waits equally long, so what has run out stands at the head.
 *
 * Held in flat arrays and not as objects: a hundred thousand objects that live for half a minute each are what a garbage collector does worst,
 * and cost three times as much as all the rest of the table. A ring holds the entries in order, chains through it find them by key.
 */
import type { RouteKey, SessionId } from "../tunnel/Envelope.ts"

const slotsMin = 1024
const none = -1

/** Request ids of one gateway follow each other, and so do their buckets: neighbours in time are neighbours in memory. */
const hash = ({ gatewayId, requestId }: RouteKey): number => (Math.imul(gatewayId, 0x9e3779b1) + requestId) | 0

/** A bounded memory of closed routes. Told the time, as the table is. */
export class Tombstones {
  private readonly max: number
  private readonly spanMs: number
  private count = 0
  /** The oldest entry's slot; the newest stands `length - 1` after it, around the ring. */
  private head = 0
  /** Slots in use, those among them that were taken out of turn included. */
  private length = 0
  private slots = 0
  private gatewayIds = new Uint32Array(0)
  private requestIds = new Uint32Array(0)
  private until = new Float64Array(0)
  /** Whose the route was; undefined in a slot that was taken out of turn. */
  private owners: Array<SessionId | undefined> = []
  /** The next slot of the same bucket. */
  private following = new Int32Array(0)
  private buckets = new Int32Array(0)

  constructor(options: { readonly tombstonesMax: number; readonly tombstoneMs: number }) {
    this.max = options.tombstonesMax
    this.spanMs = options.tombstoneMs
  }

  get size(): number {
    return this.count
  }

  /** How many it has room for without growing, for tests. */
  get room(): number {
    return this.slots
  }

  /** Whose the closed route was; undefined where none is remembered. */
  ownerOf(key: RouteKey): SessionId | undefined {
    const slot = this.find(key)
    return slot === none ? undefined : this.owners[slot]
  }

  /** Remembers a route as closed now; beyond the bound the oldest is forgotten. */
  add(key: RouteKey, owner: SessionId, now: number): void {
    if (this.max === 0) return
    if (this.count === this.max) this.forgetOldest()
    if (this.length === this.slots) this.resize(2 ** Math.ceil(Math.log2(Math.max(slotsMin, this.count * 2))))
    const slot = (this.head + this.length) & (this.slots - 1)
    this.length++
    this.put(slot, key.gatewayId, key.requestId, owner, now + this.spanMs)
  }

  /** Forgets one before its time: its key is in use again. */
  remove(key: RouteKey): void {
    const slot = this.find(key)
    if (slot !== none) this.unlink(slot)
  }

  /** Forgets all that have run out. */
  sweep(now: number): void {
    while (this.length > 0 && (this.until[this.head] as number) <= now) this.dropHead()
  }

  private bucketOf(hashed: number): number {
    return hashed & (this.slots - 1)
  }

  private find(key: RouteKey): number {
    if (this.count === 0) return none
    let slot = this.buckets[this.bucketOf(hash(key))] as number
    while (slot !== none && (this.requestIds[slot] !== key.requestId || this.gatewayIds[slot] !== key.gatewayId)) {
      slot = this.following[slot] as number
    }
    return slot
  }

  private put(slot: number, gatewayId: number, requestId: number, owner: SessionId, until: number): void {
    const bucket = this.bucketOf(hash({ gatewayId, requestId }))
    this.gatewayIds[slot] = gatewayId
    this.requestIds[slot] = requestId
    this.owners[slot] = owner
    this.until[slot] = until
    this.following[slot] = this.buckets[bucket] as number
    this.buckets[bucket] = slot
    this.count++
  }

  private unlink(slot: number): void {
    const gatewayId = this.gatewayIds[slot] as number
    const requestId = this.requestIds[slot] as number
    const bucket = this.bucketOf(hash({ gatewayId, requestId }))
    const next = this.following[slot] as number
    if (this.buckets[bucket] === slot) this.buckets[bucket] = next
    else {
      let before = this.buckets[bucket] as number
      while (this.following[before] !== slot) before = this.following[before] as number
      this.following[before] = next
    }
    this.owners[slot] = undefined
    this.count--
  }

  private dropHead(): void {
    if (this.owners[this.head] !== undefined) this.unlink(this.head)
    this.head = (this.head + 1) & (this.slots - 1)
    this.length--
    // Nothing is left: give back what a busy time took.
    if (this.length === 0 && this.slots > slotsMin) this.resize(0)
  }

  private forgetOldest(): void {
    const before = this.count
    while (this.count === before) this.dropHead()
  }

  /** Moves what is remembered, in order, into a ring of so many slots: a power of two, or none. */
  private resize(slotsWanted: number): void {
    const { gatewayIds, head, length, owners, requestIds, slots, until } = this
    this.slots = slotsWanted
    this.gatewayIds = new Uint32Array(this.slots)
    this.requestIds = new Uint32Array(this.slots)
    this.until = new Float64Array(this.slots)
    this.owners = new Array<SessionId | undefined>(this.slots)
    this.following = new Int32Array(this.slots)
    this.buckets = new Int32Array(this.slots).fill(none)
    this.head = 0
    this.length = 0
    this.count = 0
    for (let i = 0; i < length; i++) {
      const slot = (head + i) & (slots - 1)
      const owner = owners[slot]
      if (owner === undefined) continue
      this.put(this.length++, gatewayIds[slot] as number, requestIds[slot] as number, owner, until[slot] as number)
    }
  }
}
