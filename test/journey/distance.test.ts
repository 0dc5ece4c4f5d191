/** A runner far away from its hub: one stream fills the link between them, either way, and nothing is lost where it breaks under full windows. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { pattern, patternHash, startLocalApp } from "./LocalApp.ts"
import { type LinkShape, startLongLink } from "./LongLink.ts"
import * as Processes from "./Processes.ts"

const MiB = 1024 * 1024
const megabit = 1e6 / 8
/** Of what a link carries: it is more on a machine that does nothing else. */
const filled = 0.7

interface Distance extends LinkShape {
  readonly mebibytes: number
}

/** The last holds 1.5 MB: a window of 1 MiB, of which a grant is under way, would fill half of it. */
const distances: ReadonlyArray<Distance> = [
  { roundTripMs: 0, bytesPerSecond: Infinity, mebibytes: 8 },
  { roundTripMs: 50, bytesPerSecond: 60 * megabit, mebibytes: 10 },
  { roundTripMs: 200, bytesPerSecond: 60 * megabit, mebibytes: 20 }
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
  if (bytesPerSecond === Infinity) return
  if (roundTripMs === 200) assert.isAtLeast(grown, MiB)
  assert.isAbove(link.there.rateOver(6 * MiB) / bytesPerSecond, filled, `${roundTripMs} ms, from the runner`)
  assert.isAbove(link.back.rateOver(6 * MiB) / bytesPerSecond, filled, `${roundTripMs} ms, to the runner`)
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
