/**
 * A world of its own for a system of Effects: its clock, its chance and its scheduler are plain data, and it moves one task at a time. Nothing
 * here waits for the real world, so a simulated hour takes as long as what happens in it, and the same seed is the same hour.
 */
import { Clock, Context, Duration, Effect, Random, Scheduler } from "effect"
import { Soon, Turn } from "../../src/tunnel/Turn.ts"
import { makeRandom, type SeededRandom } from "../fuzz/Mutation.ts"

interface Timer {
  readonly at: number
  readonly order: number
  readonly wake: () => void
  cancelled: boolean
}

/** A binary heap: the earliest first, and of those at one time the one that was set first. */
class Timers {
  private readonly heap: Array<Timer> = []

  get size(): number {
    return this.heap.length
  }

  push(timer: Timer): void {
    const { heap } = this
    let at = heap.push(timer) - 1
    while (at > 0) {
      const above = (at - 1) >> 1
      if (!this.before(at, above)) return
      this.swap(at, above)
      at = above
    }
  }

  pop(): Timer | undefined {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || first === last) return first
    heap[0] = last
    for (let at = 0; ; ) {
      const left = 2 * at + 1
      const right = left + 1
      let least = at
      if (left < heap.length && this.before(left, least)) least = left
      if (right < heap.length && this.before(right, least)) least = right
      if (least === at) return first
      this.swap(at, least)
      at = least
    }
  }

  private before(one: number, other: number): boolean {
    const [a, b] = [this.heap[one] as Timer, this.heap[other] as Timer]
    return a.at < b.at || (a.at === b.at && a.order < b.order)
  }

  private swap(one: number, other: number): void {
    const kept = this.heap[one] as Timer
    this.heap[one] = this.heap[other] as Timer
    this.heap[other] = kept
  }
}

/** One simulated world. */
export class World {
  readonly random: SeededRandom
  /** Tasks run and time steps made. */
  steps = 0
  /** Changes with everything that was noted: two runs that did the same have the same. */
  hash = 0x811c9dc5
  /** What was noted last, for whoever looks into a failure. */
  readonly notes: Array<string> = []
  private readonly shuffled: boolean
  private readonly preempts: boolean
  private opsLeft = 0
  private readonly watchers = new Set<() => void>()
  private ready: Array<() => void> = []
  private head = 0
  private readonly timers = new Timers()
  private order = 0
  private monotonicMs = 1_000
  private wallOffsetMs = 1_700_000_000_000

  /** `shuffled`: whatever is ready may come next; else first come, first served. `preempts`: a fiber may have to wait after any of its steps. */
  constructor(seed: number) {
    this.random = makeRandom(seed)
    this.shuffled = this.random.below(3) > 0
    this.preempts = this.random.below(3) === 0
  }

  get nowMs(): number {
    return this.monotonicMs
  }

  /** A number from 0 to below 1. */
  readonly chance = (): number => this.random.next() / 0x1_0000_0000

  /** The wall clock is corrected; no time passes. */
  jumpWallClock(ms: number): void {
    this.wallOffsetMs += ms
  }

  /** Timers that have not gone off. */
  get timersPending(): number {
    return this.timers.size
  }

  /** Calls `look` after every step from now on, until the result is called. */
  afterEachStep(look: () => void): () => void {
    this.watchers.add(look)
    return () => void this.watchers.delete(look)
  }

  /** Puts a line into the trace. */
  note(line: string): void {
    const text = `${this.monotonicMs} ${line}`
    for (let i = 0; i < text.length; i++) this.hash = Math.imul(this.hash ^ text.charCodeAt(i), 0x01000193)
    this.notes.push(text)
    if (this.notes.length > 4_000) this.notes.splice(0, 2_000)
  }

  readonly soon = (task: () => void): void => {
    this.ready.push(task)
  }

  after(ms: number, wake: () => void): () => void {
    const timer: Timer = { at: this.monotonicMs + ms, order: this.order++, wake, cancelled: false }
    this.timers.push(timer)
    return () => {
      timer.cancelled = true
    }
  }

  /** One task, or one step of time where nothing is ready, and then a look at everything. `false`: nothing will ever happen any more. */
  step(): boolean {
    this.steps++
    const happened = this.move()
    for (const look of this.watchers) look()
    return happened
  }

  private move(): boolean {
    const count = this.ready.length - this.head
    if (count > 0) {
      this.nextTask(count)()
      return true
    }
    let timer = this.timers.pop()
    while (timer?.cancelled) timer = this.timers.pop()
    if (timer === undefined) return false
    this.monotonicMs = Math.max(this.monotonicMs, timer.at)
    timer.wake()
    return true
  }

  private nextTask(count: number): () => void {
    // From a narrow window: a task that waits behind hundreds of others for ever would be no real schedule either.
    if (this.shuffled && count > 1) {
      const at = this.head + this.random.below(Math.min(count, 8))
      const chosen = this.ready[at] as () => void
      this.ready[at] = this.ready[this.head] as () => void
      this.ready[this.head] = chosen
    }
    const task = this.ready[this.head++] as () => void
    if (this.head === this.ready.length) {
      this.ready = []
      this.head = 0
    }
    return task
  }

  /** All that a program would take from the real world. */
  context(): Context.Context<never> {
    const nowMs = () => Math.floor(this.monotonicMs + this.wallOffsetMs)
    const wallNanos = () => BigInt(nowMs()) * 1_000_000n
    const monotonicNanos = () => BigInt(Math.round(this.monotonicMs * 1e6))
    const clock: Clock.Clock = {
      currentTimeMillisUnsafe: nowMs,
      currentTimeMillis: Effect.sync(nowMs),
      currentTimeNanosUnsafe: wallNanos,
      currentTimeNanos: Effect.sync(wallNanos),
      monotonicTimeNanosUnsafe: monotonicNanos,
      monotonicTimeNanos: Effect.sync(monotonicNanos),
      sleep: (duration) => {
        const ms = Duration.toMillis(duration)
        if (ms <= 0) return Effect.yieldNow
        if (ms === Number.POSITIVE_INFINITY) return Effect.never
        return Effect.callback((resume) => {
          // Whole milliseconds, as timers are; a shorter wait would not move the clock at all.
          const cancel = this.after(Math.ceil(ms), () => resume(Effect.void))
          return Effect.sync(cancel)
        })
      }
    }
    const random = {
      nextIntUnsafe: () => this.random.next() * 0x10_0000 + (this.random.next() >>> 12),
      nextDoubleUnsafe: this.chance
    }
    const budget = new Scheduler.MixedScheduler()
    // In a real process the budget of a fiber may run out anywhere, and sockets are read before it goes on; here it does so all the time.
    let isPreempted = false
    const preempt = () => {
      if (this.opsLeft-- > 0) return false
      this.opsLeft = this.random.below(60)
      isPreempted = true
      return true
    }
    // A fiber that was just told to wait schedules itself, before anybody else does.
    const scheduleTask = (task: () => void) => {
      if (isPreempted) this.after(this.random.below(3), task)
      else this.soon(task)
      isPreempted = false
    }
    const scheduler: Scheduler.Scheduler = {
      executionMode: "async",
      shouldYield: this.preempts ? preempt : (fiber) => budget.shouldYield(fiber),
      makeDispatcher: () => ({ scheduleTask, flush: () => {} })
    }
    // The end of a turn is when everything that was ready has been read; a little later is as good.
    const turn = (task: () => void) => void this.after(0, task)
    return Context.empty().pipe(
      Context.add(Clock.Clock, clock),
      Context.add(Random.Random, random),
      Context.add(Scheduler.Scheduler, scheduler),
      Context.add(Turn, turn),
      Context.add(Soon, this.soon)
    ) as Context.Context<never>
  }
}
