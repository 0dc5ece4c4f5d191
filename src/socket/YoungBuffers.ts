/**
 * Has the buffers of bulk transfers collected while they are young. Every read from a socket makes one of 64 KiB, which is forgotten a moment later; but it
 * lies outside of V8's heap, which therefore sees no reason for a small collection, and begins a full one for each 64 MiB that have passed. A small one
 * each few MiB costs a tenth (decision 0223).
 *
 * For a process of one's own: `wayleave serve` and `wayleave expose` do it. V8's small collection is had by a flag that is set while the process runs.
 */
import { getHeapStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Context, Effect, Layer } from "effect"
import { limits } from "../tunnel/Limits.ts"

/** What this needs of V8. */
export interface Collector {
  /** Bytes of buffers outside of the heap, those that nobody holds any more included. */
  readonly externalBytes: () => number
  /** Collects what is young. */
  readonly collectYoung: () => void
}

/** For work that comes in bursts: what V8 tidies away while a process rests is what it needs a moment later (decision 0225), and what it has learned of one burst is wrong for the next. */
const flags = [
  // Buffers count against the room that a full collection leaves, which V8 measures by how fast the heap alone fills: next to none beside a bulk transfer.
  "--heap-growing-percent=300",
  // A young generation that shrank is as large as before after one step, not after many.
  "--semi-space-growth-factor=16",
  // What was compiled stays so.
  "--no-flush-bytecode",
  // A hundred requests that stay open teach V8 to make what all later ones are made of old from birth, where it keeps alive whatever it points to (decision 0227).
  "--no-allocation-site-pretenuring",
  // Without it V8 begins a full collection for each 64 MiB of buffers that came and went, whatever room there is (decision 0228). Node 22 has none.
  ...(Number.parseInt(process.versions.v8, 10) >= 13 ? ["--external-memory-accounted-in-global-limit"] : [])
]

/** The collector of this process. */
export const Collector = Context.Reference<Collector>("wayleave/socket/Collector", {
  defaultValue: () => {
    setFlagsFromString("--expose-gc")
    const gc: (options: { readonly type: "minor" }) => void = runInNewContext("gc")
    setFlagsFromString("--no-expose-gc")
    for (const flag of flags) setFlagsFromString(flag)
    return { externalBytes: () => getHeapStatistics().external_memory, collectYoung: () => gc({ type: "minor" }) }
  }
})

/** Between two looks while buffers come, and while none do, in milliseconds. A look costs two microseconds. */
const busyMs = 10
const quietMs = 100
/** So many looks without anything to collect are quiet. */
const quietLooks = 20

const watch = Effect.gen(function* () {
  const { collectYoung, externalBytes } = yield* Collector
  let lowBytes = externalBytes()
  let looks = 0
  const look = Effect.sync(() => {
    const bytes = externalBytes()
    if (bytes - lowBytes > limits.youngBufferBytesMax) {
      collectYoung()
      lowBytes = externalBytes()
      looks = 0
      return
    }
    lowBytes = Math.min(lowBytes, bytes)
    looks++
  })
  return yield* Effect.suspend(() => Effect.delay(look, looks < quietLooks ? busyMs : quietMs)).pipe(Effect.forever)
})

/** Watches for as long as its scope is open. */
export const layer: Layer.Layer<never> = Layer.effectDiscard(Effect.forkScoped(watch))
