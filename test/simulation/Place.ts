/** Where visitors of a simulation go, what they may ask there, and what its runners are known to have said and suffered. */

import type { World } from "./World.ts"

/** More than a window. */
export const bytesMax = 300_000
/** How much is asked for: now and then more than a window. */
export const sizesOfAll: ReadonlyArray<number> = [0, 1, 100, 3_000, 70_000, bytesMax]

/** Most visitors talk fast, and are done soon. */
export const quickTalk = { paceMs: 60, messagesMin: 1 } as const

/** Longer than anything is under way on a wire that stands. */
const flightMs = 40_000

/** What is known of the runners of a name: what they said, and whether their network let them. */
export class RunnerRecord {
  /** Connections of theirs that broke, or may have. */
  breaks = 0
  /** Visits whose WebSocket they ended before its time. */
  readonly parted = new Set<number>()
  private readonly world: World
  /** Visits that they answered, and how many connections had broken by the time that what they said had arrived. */
  private readonly answers = new Map<number, number | undefined>()

  constructor(world: World) {
    this.world = world
  }

  /** They answered in full, over a connection that stands so far, or accepted a WebSocket. */
  answered(visit: number): void {
    this.answers.set(visit, undefined)
    this.world.after(flightMs, () => this.answers.set(visit, this.breaks))
  }

  /** Whether they answered, and no connection broke since `breaksBefore` were broken that could have kept it away. */
  owes(visit: number, breaksBefore: number): boolean {
    return this.answers.has(visit) && (this.answers.get(visit) ?? this.breaks) === breaksBefore
  }
}

/** Where visitors go, and what may be asked and expected there. */
export interface Place {
  readonly name: string
  readonly sizes: ReadonlyArray<number>
  /** How a visitor talks over a WebSocket: the longest wait between two messages, and how many there are at least. */
  readonly talk: { readonly paceMs: number; readonly messagesMin: number }
  /** Rivet's wire has no trailers, and numbers nothing upwards: a message that was under way when a connection broke may be missing, and nobody can know. */
  readonly rivet: boolean
  /** Undefined where nobody keeps one. */
  readonly record: RunnerRecord | undefined
}
