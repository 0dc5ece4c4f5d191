/**
 * Which actors there are: by id in the order of their creation, by name and key while they live, and the names themselves. Destroyed ones are
 * remembered a while, so that whoever asks learns what became of them. Bounded; the destroyed make room first.
 */
import { Fifo } from "../tunnel/Fifo.ts"
import type { Actor } from "./ControlState.ts"
import { identityKey } from "./RunnerRoster.ts"

/** The bounds of a roster. */
export interface ActorRosterOptions {
  readonly actorsMax: number
  readonly actorsDestroyedMax: number
  readonly actorNamesMax: number
}

/** Actors by id, by name and key, by name. */
export class ActorRoster {
  private readonly options: ActorRosterOptions
  private readonly byId = new Map<string, Actor>()
  /** Those that live. */
  private readonly byKey = new Map<string, Actor>()
  private readonly perName = new Map<string, number>()
  /** Metadata by name, as runners announced it. */
  private readonly announced = new Map<string, string>()
  /** In the order of their end. Some may have been forgotten since. */
  private readonly destroyed = new Fifo<Actor>()
  private destroyedCount = 0

  constructor(options: ActorRosterOptions) {
    this.options = options
  }

  get size(): number {
    return this.byId.size
  }

  get all(): Iterable<Actor> {
    return this.byId.values()
  }

  get(id: string): Actor | undefined {
    return this.byId.get(id)
  }

  /** The living actor of a name and key. */
  find(name: string, key: string): Actor | undefined {
    return this.byKey.get(identityKey(name, key))
  }

  add(actor: Actor): void {
    this.byId.set(actor.id, actor)
    if (actor.life.state._tag === "Destroyed") return
    const { key, name } = actor.request
    if (key !== null) this.byKey.set(identityKey(name, key), actor)
    this.perName.set(name, (this.perName.get(name) ?? 0) + 1)
  }

  /** It was destroyed just now: its key is free. */
  end(actor: Actor): void {
    const { key, name } = actor.request
    if (key !== null && this.find(name, key) === actor) this.byKey.delete(identityKey(name, key))
    const left = (this.perName.get(name) ?? 1) - 1
    if (left === 0) this.perName.delete(name)
    else this.perName.set(name, left)
  }

  /** It is among the destroyed, the latest of them. */
  bury(actor: Actor): void {
    this.destroyed.push(actor)
    this.destroyedCount++
  }

  /** Of a destroyed one nothing is left. */
  forget(actor: Actor): void {
    if (this.byId.delete(actor.id)) this.destroyedCount--
    for (let oldest = this.destroyed.peek(); oldest !== undefined; oldest = this.destroyed.peek()) {
      if (this.byId.get(oldest.id) === oldest) break
      this.destroyed.shift()
    }
  }

  /** A destroyed actor that has to go: more are remembered than may be, or `wanted` for a new one. */
  surplus(wanted: boolean): Actor | undefined {
    const full = wanted && this.byId.size >= this.options.actorsMax
    if (!full && this.destroyedCount <= this.options.actorsDestroyedMax) return undefined
    for (;;) {
      const actor = this.destroyed.shift()
      if (actor === undefined || this.byId.get(actor.id) === actor) return actor
    }
  }

  get isFull(): boolean {
    return this.byId.size >= this.options.actorsMax
  }

  /** In the order of creation, behind `cursor`; none where that is not remembered. */
  list(query: {
    readonly name?: string
    readonly includeDestroyed?: boolean
    readonly limit: number
    readonly cursor?: string
  }): ReadonlyArray<Actor> {
    const found: Array<Actor> = []
    let reached = query.cursor === undefined
    for (const actor of this.byId.values()) {
      if (!reached) {
        reached = actor.id === query.cursor
        continue
      }
      if (found.length >= query.limit) break
      if (query.name !== undefined && actor.request.name !== query.name) continue
      if (actor.life.state._tag === "Destroyed" && query.includeDestroyed !== true) continue
      found.push(actor)
    }
    return found
  }

  /** A runner's names. Beyond the bound a new one is not taken in. */
  announce(names: ReadonlyMap<string, string>): void {
    for (const [name, metadata] of names) {
      if (this.announced.has(name) || this.announced.size < this.options.actorNamesMax)
        this.announced.set(name, metadata)
    }
  }

  get names(): ReadonlyMap<string, string> {
    const names = new Map(this.announced)
    for (const name of this.perName.keys()) if (!names.has(name)) names.set(name, "{}")
    return names
  }
}
