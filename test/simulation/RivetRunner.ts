/**
 * Rivet's runners in a simulation, of any version: processes that come and go, with networks that fail, and one of bad faith. What each says is
 * `RivetClient.ts`, and what its app does `RivetApp.ts`.
 */
import { Effect } from "effect"
import { type RivetVersion, versions } from "../../src/protocol/Rivet.ts"
import { actorsName } from "./ActorRoutes.ts"
import type { Cluster } from "./Cluster.ts"
import { type Place, RunnerRecord, sizesOfAll } from "./Place.ts"
import { type Pool, RivetApp } from "./RivetApp.ts"
import { RivetClient } from "./RivetClient.ts"
import type { Ledger } from "./Traffic.ts"
import { forgedStatus, type HubWatch } from "./Watch.ts"
import type { World } from "./World.ts"

/** Where visitors find them. */
export const rivetPlace = (world: World): Place & { readonly record: RunnerRecord } => ({
  name: actorsName,
  sizes: sizesOfAll,
  talk: { paceMs: 1_000, messagesMin: 6 },
  rivet: true,
  record: new RunnerRecord(world)
})

const namespace = "default"
const stumblesMax = 3
const stirsMax = 8

/** All of one name. */
export interface RivetRunners {
  /** Those that run. */
  readonly count: () => number
  /** A process ends, at once or in order, and another takes its place. */
  readonly replaceOne: Effect.Effect<void>
  /** All leave in order, and nobody takes their place. */
  readonly leave: Effect.Effect<void>
}

/** Runs one or two for as long as the scope is open. */
export const startRivetRunners = Effect.fnUntraced(function* (
  ledger: Ledger,
  cluster: Cluster,
  { name, record }: ReturnType<typeof rivetPlace>
) {
  const { violate, world } = ledger
  const { random } = world
  const scope = yield* Effect.scope
  const pool: Pool = { ledger, namespace, record, sockets: new Map() }
  const running: Array<RivetClient> = []
  let keys = 0

  const start = (key = `key${keys++}`) => {
    const version = versions[random.below(versions.length)] as RivetVersion
    const client = new RivetClient(world, {
      ...{ version, name, key, violate },
      dial: (query) => cluster.dial(namespace, { query, onBreak: () => void record.breaks++ })
    })
    const app = new RivetApp(pool, client)
    running.push(client)
    world.note(`a Rivet runner of version ${version.version} starts as ${key}`)
    const stirring = Effect.suspend(() => Effect.sleep(200 + random.below(2_000))).pipe(
      Effect.andThen(Effect.sync(() => app.stir())),
      Effect.repeat({ times: stirsMax })
    )
    const stumbling = Effect.suspend(() => Effect.sleep(300 + random.below(6_000))).pipe(
      Effect.andThen(Effect.sync(() => client.stumble())),
      Effect.repeat({ times: random.below(stumblesMax) })
    )
    return Effect.forEach([client.run(app), stirring, stumbling], (effect) => Effect.forkIn(effect, scope), {
      discard: true
    })
  }

  for (let i = 1 + random.below(2); i > 0; i--) yield* start()
  const runners: RivetRunners = {
    count: () => running.length,
    replaceOne: Effect.suspend(() => {
      const [client] = running.splice(random.below(running.length), 1) as [RivetClient]
      record.breaks++
      world.note(`a Rivet runner leaves`)
      if (random.below(2) === 0) return Effect.andThen(Effect.forkIn(client.shutDown, scope), start())
      client.kill()
      // The same key is the same runner to its hub, and knows nothing of what it was.
      return start(random.below(2) === 0 ? client.key : undefined)
    }),
    leave: Effect.suspend(() => Effect.forEach(running.splice(0), (client) => client.shutDown, { discard: true }))
  }
  return runners
})

/** A runner of its own name that says what others would, on all routes that it can see. */
export const intrudeAsRivet = Effect.fnUntraced(function* (
  { world }: Ledger,
  cluster: Cluster,
  watches: () => ReadonlyArray<HubWatch>
) {
  const { random } = world
  const version = versions[random.below(versions.length)] as RivetVersion
  const query = `protocol_version=${version.version}&namespace=${namespace}&runner_key=stranger`
  const socket = yield* cluster.dial(namespace, { query })
  const say = (up: Parameters<RivetVersion["encodeUp"]>[0]) => {
    const bytes = version.encodeUp(up)
    if (bytes !== null) socket.sendUnsafe(bytes, { binary: true, finish: true })
  }
  const introduction = { name: "elsewhere", version: 1, totalSlots: 1, lastCommandIndex: null, metadata: null }
  say({ _tag: "Actor", message: { _tag: "Introduction", ...introduction, actorNames: null } })
  for (let tries = 0; tries < 5; tries++) {
    yield* Effect.sleep(random.below(2_000))
    for (const { key: route } of watches().flatMap(({ issued }) => issued)) {
      const forged = {
        _tag: "ResponseStart",
        status: forgedStatus,
        headers: [],
        body: new Uint8Array(0),
        streamed: random.below(2) === 0
      } as const
      say({ _tag: "TunnelUp", route, index: random.below(3), frame: forged, acknowledgement: null })
    }
  }
  socket.closeUnsafe(1000, "")
})
