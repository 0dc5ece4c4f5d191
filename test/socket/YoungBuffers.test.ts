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

  /** Full collections of a process through which half a GiB of short-lived buffers goes, in turns of its event loop. */
  const fullCollections = async (watched: boolean) => {
    const module = new URL("../../src/socket/YoungBuffers.ts", import.meta.url).href
    const script = `
      import { PerformanceObserver, constants } from "node:perf_hooks"
      import { Effect, Layer } from "effect"
      import { layer } from ${JSON.stringify(module)}
      let full = 0
      new PerformanceObserver((list) => {
        for (const { detail } of list.getEntries()) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full++
      }).observe({ entryTypes: ["gc"] })
      if (${watched}) Effect.runFork(Layer.launch(layer))
      for (let turn = 0; turn < 512; turn++) {
        for (let i = 0; i < 16; i++) Buffer.allocUnsafeSlow(64 * 1024)
        await new Promise((resume) => setTimeout(resume, 1))
      }
      await new Promise((resume) => setTimeout(resume, 50))
      console.log(full)
      process.exit()`
    const argv = ["--input-type=module", "-e", script]
    return Number((await promisify(execFile)(process.execPath, argv, { cwd: import.meta.dirname })).stdout)
  }

  it("cost a process no full collection", async () => {
    const [without, withIt] = await Promise.all([fullCollections(false), fullCollections(true)])
    assert.isAtLeast(without, 4)
    assert.isAtMost(withIt, without / 4)
  })
})
