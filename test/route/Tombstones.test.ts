import { assert, it } from "@effect/vitest"
import { Tombstones } from "../../src/route/Tombstones.ts"
import { type RouteKey, SessionId } from "../../src/tunnel/Envelope.ts"
import { makeRandom } from "../fuzz/Mutation.ts"

const owners = ["a", "b"].map((letter) => SessionId.make(letter.repeat(32)))
const bounds = { tombstonesMax: 3_000, tombstoneMs: 5_000 }

it("remembers just what a list would, while the ring grows, wraps, is thinned out and emptied", () => {
  const random = makeRandom(20_261_124)
  const tombstones = new Tombstones(bounds)
  // In the order of closing, as a Map keeps it.
  const list = new Map<string, { readonly owner: SessionId; readonly until: number }>()
  const keyOf = (gatewayId: number, requestId: number) => `${gatewayId}/${requestId}`
  let now = 0
  let removals = 0
  let emptied = 0
  let fullest = 0
  for (let step = 0; step < 60_000; step++) {
    const gatewayId = random.below(3) * 0x7fff_ffff
    const requestId = 0xffff_f000 + random.below(4_000)
    const key = { gatewayId, requestId }
    const owner = owners[random.below(2)] as SessionId
    if (list.has(keyOf(gatewayId, requestId))) {
      removals++
      tombstones.remove(key)
      list.delete(keyOf(gatewayId, requestId))
    }
    if (random.below(4) > 0) {
      if (list.size === bounds.tombstonesMax) list.delete(list.keys().next().value as string)
      tombstones.add(key, owner, now)
      list.set(keyOf(gatewayId, requestId), { owner, until: now + bounds.tombstoneMs })
    }
    now += random.below(3)
    if (step % 20_000 === 19_999) now += 10_000
    if (step % 100 === 99) {
      tombstones.sweep(now)
      for (const [each, { until }] of list) if (until <= now) list.delete(each)
      if (list.size === 0) emptied++
    }
    fullest = Math.max(fullest, list.size)
    assert.strictEqual(tombstones.size, list.size)
    const asked = { gatewayId: random.below(3) * 0x7fff_ffff, requestId: 0xffff_f000 + random.below(4_000) }
    assert.strictEqual(tombstones.ownerOf(asked), list.get(keyOf(asked.gatewayId, asked.requestId))?.owner)
  }
  assert.strictEqual(fullest, bounds.tombstonesMax)
  assert.isAbove(removals, 1_000)
  assert.strictEqual(emptied, 3)
})

it("tells gateways apart whose routes share a bucket", () => {
  const tombstones = new Tombstones(bounds)
  // As far apart as any ring is large: their buckets are the same whatever the size.
  const [near, far] = [1, 1 + 2 ** 24].map((gatewayId) => ({ gatewayId, requestId: 5 })) as [RouteKey, RouteKey]
  tombstones.add(near, owners[0] as SessionId, 0)
  assert.isUndefined(tombstones.ownerOf(far))
  tombstones.add(far, owners[1] as SessionId, 0)
  assert.deepStrictEqual([tombstones.ownerOf(near), tombstones.ownerOf(far)], owners)
  tombstones.remove(near)
  assert.deepStrictEqual([tombstones.ownerOf(near), tombstones.ownerOf(far)], [undefined, owners[1]])
})

it("gives back the room that a busy time took, and keeps what a quiet one needs", () => {
  const tombstones = new Tombstones(bounds)
  assert.strictEqual(tombstones.room, 0)
  const fill = (many: number, now: number) => {
    for (let requestId = 0; requestId < many; requestId++) {
      tombstones.add({ gatewayId: 1, requestId }, owners[0] as SessionId, now)
    }
  }
  fill(10, 0)
  assert.strictEqual(tombstones.room, 1024)
  tombstones.sweep(bounds.tombstoneMs)
  assert.deepStrictEqual([tombstones.size, tombstones.room], [0, 1024])
  fill(1_025, 10_000)
  assert.strictEqual(tombstones.room, 2048)
  tombstones.sweep(10_000 + bounds.tombstoneMs)
  assert.deepStrictEqual([tombstones.size, tombstones.room], [0, 0])
})

it("remembers nothing where there may be none", () => {
  const tombstones = new Tombstones({ ...bounds, tombstonesMax: 0 })
  tombstones.add({ gatewayId: 1, requestId: 1 }, owners[0] as SessionId, 0)
  assert.strictEqual(tombstones.size, 0)
  assert.isUndefined(tombstones.ownerOf({ gatewayId: 1, requestId: 1 }))
})
