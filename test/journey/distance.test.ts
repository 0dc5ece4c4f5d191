/** A runner far away from its hub: one stream fills the link between them, either way, and nothing is lost where it breaks under full windows. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { pattern, patternHash, startLocalApp } from "./LocalApp.ts"
import { type LinkShape, startLongLink } from "./LongLink.ts"
import * as Processes from "./Processes.ts"

const MiB = 1024 * 1024
const megabit = 1e6 / 8
/** Of what a link carries. On a machine that does nothing else it is nearly all, and a third where no window grows beyond 1 MiB. */
const filled = 0.5

interface Distance extends LinkShape {
  readonly mebibytes: number
}

/** The last holds 2.5 MB, more than a window of 1 MiB; any window fills the others. */
const distances: ReadonlyArray<Distance> = [
  { roundTripMs: 0, bytesPerSecond: Infinity, mebibytes: 8 },
  { roundTripMs: 50, bytesPerSecond: 100 * megabit, mebibytes: 10 },
  { roundTripMs: 200, bytesPerSecond: 100 * megabit, mebibytes: 28 }
]

/** What the gateway's windows have grown by beyond what each may have for itself. */
const growth = (hub: Processes.Serving) => Processes.metric(hub.adminPort, "wayleave_gateway_window_growth_bytes")

function* upTo(mebibytes: number) {
  for (let i = 0; i < mebibytes * 16; i++) yield pattern
}

/** A runner at the far end of a link, ready when this returns. */
const settleAt = Effect.fnUntraced(function* (hubPort: number, appPort: number, distance: Distance) {
  const link = yield* startLongLink(hubPort, distance)
  const name = `far-${distance.roundTripMs}`
  yield* Processes.expose(appPort, link.port, name)
  return { distance, host: `${name}.localhost`, link }
})

const passBothWays = Effect.fnUntraced(function* (
  hub: Processes.Serving,
  { distance, host, link }: Effect.Success<ReturnType<typeof settleAt>>
) {
  const { bytesPerSecond, mebibytes, roundTripMs } = distance
  const bytes = mebibytes * MiB
  const down = Processes.fetch(hub.port, { host, path: `/big?bytes=${bytes}` })
  const up = Processes.fetch(hub.port, {
    host,
    path: "/upload",
    method: "POST",
    headers: { "content-length": String(bytes) },
    body: upTo(mebibytes)
  })
  // Near the end, when the windows are as wide as they get.
  const nearEnd = Effect.andThen(link.there.reached(bytes * 0.9), growth(hub))
  const cut = roundTripMs === 200 ? Effect.tap(nearEnd, () => link.cut) : nearEnd
  const [downloaded, uploaded, grown] = yield* Effect.all([down, up, cut], { concurrency: 3 })
  const hash = patternHash(bytes)
  assert.strictEqual(downloaded.sha256, hash)
  assert.strictEqual(uploaded.text, hash)
  assert.strictEqual(yield* growth(hub), 0)
  if (roundTripMs < 200) return
  assert.isAtLeast(grown, MiB)
  assert.isAbove(link.there.rateOver(8 * MiB) / bytesPerSecond, filled, "from the runner")
  assert.isAbove(link.back.rateOver(8 * MiB) / bytesPerSecond, filled, "to the runner")
})

it.live(
  "one stream either way fills a link of 0, 50 and 200 ms, and goes on whole after the link breaks",
  () =>
    Effect.gen(function* () {
      const app = yield* startLocalApp
      const hub = yield* Processes.serve()
      const settled = yield* Effect.forEach(distances, (distance) => settleAt(hub.port, app.port, distance), {
        concurrency: 3
      })
      yield* Effect.forEach(settled, (one) => passBothWays(hub, one), { discard: true })
    }).pipe(Effect.scoped),
  60_000
)
