import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as YoungBuffers from "../../src/socket/YoungBuffers.ts"
import { limits } from "../../src/tunnel/Limits.ts"

/** A heap played by the test: what is collected is gone, but for what is held. */
const play = () => {
  const heap = { bytes: 50_000, heldBytes: 50_000, collections: 0, looks: 0 }
  const collector: YoungBuffers.Collector = {
    externalBytes: () => {
      heap.looks++
      return heap.bytes
    },
    collectYoung: () => {
      heap.collections++
      heap.bytes = heap.heldBytes
    }
  }
  const layer = YoungBuffers.layer.pipe(Layer.provide(Layer.succeed(YoungBuffers.Collector, collector)))
  return { heap, layer }
}

describe("buffers of bulk transfers", () => {
  it.effect("are collected once there are more of them than may be, and not before", () => {
    const { heap, layer } = play()
    return Effect.gen(function* () {
      yield* TestClock.adjust(100)
      heap.bytes += limits.youngBufferBytesMax
      yield* TestClock.adjust(100)
      assert.strictEqual(heap.collections, 0)
      heap.bytes += 1
      yield* TestClock.adjust(100)
      assert.strictEqual(heap.collections, 1)
      // While they come, it looks ten times as often.
      heap.bytes += limits.youngBufferBytesMax + 1
      yield* TestClock.adjust(10)
      assert.strictEqual(heap.collections, 2)
    }).pipe(Effect.provide(layer))
  })

  it.effect("that are held are not collected again and again", () => {
    const { heap, layer } = play()
    return Effect.gen(function* () {
      yield* TestClock.adjust(100)
      heap.bytes += 100 * limits.youngBufferBytesMax
      heap.heldBytes = heap.bytes
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(heap.collections, 1)
    }).pipe(Effect.provide(layer))
  })

  it.effect("are looked for ten times a second where there are none", () => {
    const { heap, layer } = play()
    return Effect.gen(function* () {
      yield* TestClock.adjust("1 minute")
      const before = heap.looks
      yield* TestClock.adjust("1 second")
      assert.strictEqual(heap.looks - before, 10)
    }).pipe(Effect.provide(layer))
  })

  /** What a script prints, a number, in a process of its own with the watch of this module or without. */
  const numberFrom = async (script: string, watched: boolean) => {
    const module = new URL("../../src/socket/YoungBuffers.ts", import.meta.url).href
    const start = `
      import { Effect, Layer } from "effect"
      import { layer } from ${JSON.stringify(module)}
      if (${watched}) Effect.runFork(Layer.launch(layer))
      ${script}
      process.exit()`
    const argv = ["--input-type=module", "-e", start]
    return Number((await promisify(execFile)(process.execPath, argv, { cwd: import.meta.dirname })).stdout)
  }

  /** Full collections while half a GiB of short-lived buffers goes through, in turns of the event loop. */
  const fullCollections = `
    import { PerformanceObserver, constants } from "node:perf_hooks"
    let full = 0
    new PerformanceObserver((list) => {
      for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full++
    }).observe({ entryTypes: ["gc"] })
    for (let turn = 0; turn < 512; turn++) {
      for (let i = 0; i < 16; i++) Buffer.allocUnsafeSlow(64 * 1024)
      await new Promise((resume) => setTimeout(resume, 1))
    }
    await new Promise((resume) => setTimeout(resume, 50))
    console.log(full)`

  it("cost a process no full collection", async () => {
    const [without, withIt] = await Promise.all([false, true].map((watched) => numberFrom(fullCollections, watched)))
    assert.isAtLeast(without as number, 4)
    assert.isAtMost(withIt as number, (without as number) / 4)
  })

  /** Bytes by which the old generation grows while short-lived objects are made, after many of the same kind that stayed. */
  const bornOld = `
    import { getHeapSpaceStatistics } from "node:v8"
    import { setImmediate } from "node:timers/promises"
    const oldBytes = () => getHeapSpaceStatistics().find((space) => space.space_name === "old_space").space_used_size
    const make = (i) => ({ head: { at: i, parts: [i, i + 1, i + 2] }, body: new Array(64).fill(i) })
    const kept = []
    for (let turn = 0; turn < 100; turn++) {
      for (let i = 0; i < 3000; i++) kept.push(make(i))
      await setImmediate()
    }
    kept.length = 100
    let grown = 0
    let before = oldBytes()
    for (let turn = 0; turn < 200; turn++) {
      for (let i = 0; i < 3000; i++) globalThis.latest = make(i)
      const now = oldBytes()
      grown += Math.max(0, now - before)
      before = now
      await setImmediate()
    }
    console.log(grown)`

  it("and what is made after many that stayed is made young again", async () => {
    const [without, withIt] = await Promise.all([false, true].map((watched) => numberFrom(bornOld, watched)))
    assert.isAtMost(withIt as number, (without as number) / 2)
  })
})
