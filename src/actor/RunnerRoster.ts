/**
 * Which runners there are, who they are when they come back, and which of them takes the next actor: the one of the highest version, and among
 * those the one with most free slots. Bounded: beyond the bound those that are gone are forgotten, and a new one is not remembered at all.
 */
import type { SessionId } from "../tunnel/Envelope.ts"
import type { RunnerIntroduction } from "./Actor.ts"
import type { Actor, Runner } from "./ControlState.ts"

/** Runners of one name, and the actors that are placed by it. */
export interface Pool {
  readonly name: string
  readonly runners: Set<Runner>
  /** In the order in which they began to wait. */
  readonly waiting: Set<Actor>
  /** Actors of that runner name that are remembered, the one that was made for visitors not counted. */
  created: number
  autostarted: Actor | undefined
}

/** What the name and the key of a runner are together; one string, for a map. */
export const identityKey = (name: string, key: string): string => `${name.length}:${name}${key}`

/** Runners by session, by name and key, and by name. */
export class RunnerRoster {
  private readonly runnersMax: number
  private readonly bySession = new Map<SessionId, Runner>()
  /** Those whose identity is theirs still. */
  private readonly byKey = new Map<string, Runner>()
  private readonly pools = new Map<string, Pool>()

  constructor({ runnersMax }: { readonly runnersMax: number }) {
    this.runnersMax = runnersMax
  }

  get size(): number {
    return this.bySession.size
  }

  get all(): Iterable<Runner> {
    return this.bySession.values()
  }

  get(session: SessionId): Runner | undefined {
    return this.bySession.get(session)
  }

  /** The runner whose name and key these are now. */
  known({ key, name }: RunnerIntroduction): Runner | undefined {
    return this.byKey.get(identityKey(name, key))
  }

  /** Takes it in: may host where it is not leaving or gone. False where there is no room for it. */
  add(runner: Runner): boolean {
    if (this.bySession.size >= this.runnersMax) return false
    this.bySession.set(runner.session, runner)
    if (runner.goneAtMs === null) this.admit(runner)
    return true
  }

  /** It is, or is again, a runner of its name. */
  admit(runner: Runner): void {
    const { key, name } = runner.introduction
    const identity = identityKey(name, key)
    if (runner.drainingSinceMs === null && !this.byKey.has(identity)) this.byKey.set(identity, runner)
    this.pool(name).runners.add(runner)
  }

  /** Its name and key are nobody's: whoever comes with them is somebody else. */
  disown(runner: Runner): void {
    const { key, name } = runner.introduction
    const identity = identityKey(name, key)
    if (this.byKey.get(identity) === runner) this.byKey.delete(identity)
  }

  /** Disowned, and none of its pool. */
  dismiss(runner: Runner): void {
    this.disown(runner)
    const pool = this.pools.get(runner.introduction.name)
    pool?.runners.delete(runner)
    if (pool !== undefined) this.dropIfEmpty(pool)
  }

  forget(runner: Runner): void {
    this.dismiss(runner)
    this.bySession.delete(runner.session)
  }

  /** The one that is gone longest; undefined where all are somebody's. Walks over the others: only for when there are too many. */
  oldestGone(): Runner | undefined {
    for (const runner of this.bySession.values()) if (runner.lost) return runner
    return undefined
  }

  /** The pool of a name, made where it is missing. */
  pool(name: string): Pool {
    let pool = this.pools.get(name)
    if (pool === undefined) {
      pool = { name, runners: new Set(), waiting: new Set(), created: 0, autostarted: undefined }
      this.pools.set(name, pool)
    }
    return pool
  }

  poolIfAny(name: string): Pool | undefined {
    return this.pools.get(name)
  }

  /** Forgets a pool that neither runners nor actors need. */
  dropIfEmpty(pool: Pool): void {
    if (pool.runners.size > 0 || pool.created > 0 || pool.autostarted !== undefined || pool.waiting.size > 0) return
    if (this.pools.get(pool.name) === pool) this.pools.delete(pool.name)
  }
}

const takes = (runner: Runner): boolean =>
  runner.port !== undefined && runner.drainingSinceMs === null && runner.goneAtMs === null && runner.slotsLeft > 0

const isBetter = (runner: Runner, than: Runner): boolean => {
  const difference = runner.introduction.version - than.introduction.version
  return difference === 0 ? runner.slotsLeft > than.slotsLeft : difference > 0
}

/** Who takes the next actor of a pool; `avoid` only where nobody else does. */
export const pick = (pool: Pool, avoid: SessionId | null): Runner | undefined => {
  let best: Runner | undefined
  let avoided: Runner | undefined
  for (const runner of pool.runners) {
    if (!takes(runner)) continue
    if (runner.session === avoid) avoided = runner
    else if (best === undefined || isBetter(runner, best)) best = runner
  }
  return best ?? avoided
}
