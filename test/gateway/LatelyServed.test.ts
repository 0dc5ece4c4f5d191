import { assert, it } from "@effect/vitest"
import { LatelyServed } from "../../src/gateway/LatelyServed.ts"
import { limits } from "../../src/tunnel/Limits.ts"

it("remembers who served a subject last, and not for ever", () => {
  const lately = new LatelyServed()
  assert.isUndefined(lately.hubOf("name", 0))
  lately.note("name", "one", 0)
  lately.note("name", "other", 10)
  assert.strictEqual(lately.hubOf("name", limits.servedLatelyMs), "other")
  assert.isUndefined(lately.hubOf("name", limits.servedLatelyMs + 11))
})

it("is kept fresh by each stream that is served, at little cost", () => {
  const lately = new LatelyServed()
  for (let now = 0; now <= 20_000; now += 100) lately.note("busy", "one", now)
  assert.strictEqual(lately.hubOf("busy", 20_000 + limits.servedLatelyMs - 1_000), "one")
})

it("forgets what the hub said of itself, and not what another has taken up meanwhile", () => {
  const lately = new LatelyServed()
  lately.note("name", "one", 0)
  lately.forget("name", "other")
  assert.strictEqual(lately.hubOf("name", 1), "one")
  lately.forget("name", "one")
  assert.isUndefined(lately.hubOf("name", 1))
})

it("holds so many and no more: the one that was served longest ago goes first", () => {
  const lately = new LatelyServed()
  for (let i = 0; i < limits.namesRememberedMax; i++) lately.note(`name ${i}`, "one", 0)
  lately.note("name 0", "one", 2_000)
  lately.note("one more", "one", 2_000)
  assert.strictEqual(lately.size, limits.namesRememberedMax)
  assert.strictEqual(lately.hubOf("name 0", 2_000), "one")
  assert.isUndefined(lately.hubOf("name 1", 2_000))
})
