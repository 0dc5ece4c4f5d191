/**
 * Requests of one runner to the stores of its actors, asked beside the reading and in order for each actor, so that a slow disk holds up nothing but
 * its own actor. Belongs to the session: what was asked over a connection that broke still comes before what is asked over the next.
 */
import { Effect } from "effect"
import type { ActorKv } from "../../actor/ActorKv.ts"
import type { KvRequest, KvResponse } from "../../actor/ActorMessage.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import { limits } from "../../tunnel/Limits.ts"
import type { RivetWire } from "./RivetWire.ts"

/** One request of a runner, with the number it gave to it. */
export interface StoreRequest {
  readonly actorId: string
  readonly requestId: number
  readonly request: KvRequest
}

const failed = (message: string): KvResponse => ({ _tag: "Failed", message })

/** The requests of one session. */
export class StoreRequests {
  private readonly kv: ActorKv["Service"]
  private readonly wire: RivetWire
  private readonly runFork: (effect: Effect.Effect<void>) => void
  private readonly queues = new Map<string, Fifo<StoreRequest>>()
  private waiting = 0

  constructor(kv: ActorKv["Service"], wire: RivetWire, runFork: (effect: Effect.Effect<void>) => void) {
    this.kv = kv
    this.wire = wire
    this.runFork = runFork
  }

  /** Answers without asking the store. */
  refuse({ requestId }: StoreRequest, message: string): void {
    this.answer(requestId, failed(message))
  }

  /** Asks the store once all earlier requests to it are answered. */
  ask(request: StoreRequest): void {
    if (this.waiting >= limits.kvRequestsMax) return this.refuse(request, "too many requests wait for their answer")
    this.waiting++
    const { actorId } = request
    const queue = this.queues.get(actorId)
    if (queue !== undefined) return queue.push(request)
    const started = new Fifo<StoreRequest>()
    started.push(request)
    this.queues.set(actorId, started)
    this.runFork(this.serve(actorId, started))
  }

  private readonly serve = Effect.fnUntraced(function* (
    this: StoreRequests,
    actorId: string,
    queue: Fifo<StoreRequest>
  ) {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      // An answer may have 31 MiB: the next is not made while the runner does not read.
      yield* this.wire.unchoked
      const response = yield* this.asked(next)
      yield* this.wire.unchoked
      this.waiting--
      this.answer(next.requestId, response)
    }
    this.queues.delete(actorId)
  })

  private asked({ actorId, request }: StoreRequest): Effect.Effect<KvResponse> {
    return Effect.catchCause(this.kv.ask(actorId, request), (cause) =>
      Effect.as(Effect.logError("the store of actors failed", cause), failed("the store failed"))
    )
  }

  private answer(requestId: number, response: KvResponse): void {
    this.wire.say({ _tag: "KvAnswered", requestId, response })
  }
}
