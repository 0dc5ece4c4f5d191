/**
 * A runner that does by itself what the published client does beside its app: says that actors run and have stopped, answers pings and probes, numbers
 * its events anew for each start, says them all again after a reconnect. What the app does is the test's.
 */
import { Effect, Fiber, Queue } from "effect"
import type { Checkpoint, Command, Event, NumberedEvent } from "../../../src/actor/ActorMessage.ts"
import { connect, type HeardFrame, type ScriptedIntroduction } from "../../../src/testing/ScriptedRivetRunner.ts"
import { answer, settle } from "./RivetHarness.ts"

interface Hosted {
  readonly generation: number
  events: number
  history: Array<NumberedEvent>
}

/** What the app is told. */
export interface Started {
  readonly actorId: string
  readonly generation: number
  readonly hibernating: Extract<Command, { readonly _tag: "StartActor" }>["hibernating"]
}

type Connection = Effect.Success<ReturnType<typeof connect>>

export class PlayedRunner {
  readonly started: Array<Started> = []
  readonly stopped: Array<string> = []
  readonly hosted = new Map<string, Hosted>()
  private readonly introduction: ScriptedIntroduction
  private readonly frames: Queue.Queue<HeardFrame>
  private connection: Connection | undefined
  private lastCommand: bigint | undefined
  private globalEvents = 0n

  constructor(introduction: ScriptedIntroduction, frames: Queue.Queue<HeardFrame>) {
    this.introduction = introduction
    this.frames = frames
  }

  /** A frame of a stream; probes are answered already. */
  get nextFrame(): Effect.Effect<HeardFrame> {
    return Queue.take(this.frames)
  }

  get wire(): Connection {
    if (this.connection === undefined) throw new Error("not connected")
    return this.connection
  }

  readonly dial = Effect.fnUntraced(function* (this: PlayedRunner) {
    const { lastCommand } = this
    const connection = yield* connect({
      ...this.introduction,
      pongs: true,
      ...(lastCommand === undefined ? {} : { lastCommandIndex: lastCommand })
    })
    this.connection = connection
    yield* Effect.forkScoped(
      Effect.ignore(
        Effect.forever(
          Effect.flatMap(connection.next, (down) => {
            if (down._tag === "TunnelDown") return this.onFrame(down)
            if (down._tag === "Actor") this.onMessage(down.message)
            return Effect.void
          })
        )
      )
    )
    // All that was not acknowledged, as one list.
    const events = [...this.hosted.values()].flatMap(({ history }) => history)
    if (events.length > 0) this.say({ _tag: "Events", events })
    yield* settle
  })

  /** The connection breaks. */
  readonly cut = Effect.fnUntraced(function* (this: PlayedRunner) {
    const { accepted, socket } = this.wire
    this.connection = undefined
    socket.terminateUnsafe()
    yield* Fiber.join(accepted)
    yield* settle
  })

  /** The app of an actor reports something. Dropped where there is no connection, but for the history. */
  report(actorId: string, event: Event): void {
    const hosted = this.hosted.get(actorId)
    if (hosted === undefined) return
    const index = this.introduction.version > 3 ? BigInt(hosted.events++) : this.globalEvents++
    const numbered = { checkpoint: { actorId, generation: hosted.generation, index }, event }
    hosted.history.push(numbered)
    this.say({ _tag: "Events", events: [numbered] })
  }

  /** The actor is gone; where there is no connection nobody hears of it. */
  stop(actorId: string): void {
    this.report(actorId, { _tag: "Stopped", failed: this.introduction.version === 7, message: null })
    this.hosted.delete(actorId)
    this.stopped.push(actorId)
  }

  private say(message: Parameters<Connection["say"]>[0]): void {
    if (this.connection !== undefined) Effect.runSync(this.connection.say(message))
  }

  private onMessage(
    message: Extract<Connection["heard"][number]["down"], { readonly _tag: "Actor" }>["message"]
  ): void {
    switch (message._tag) {
      case "Commands":
        for (const { checkpoint, command } of message.commands) this.onCommand(checkpoint, command)
        return
      case "EventsSeen":
        for (const { actorId, index } of message.upTo) {
          const hosted = this.hosted.get(actorId)
          if (hosted !== undefined) hosted.history = hosted.history.filter(({ checkpoint }) => checkpoint.index > index)
        }
        return
      case "EventsSeenUpTo":
        for (const hosted of this.hosted.values()) {
          hosted.history = hosted.history.filter(({ checkpoint }) => checkpoint.index > message.index)
        }
        return
      case "Welcome":
      case "KvAnswered":
      case "Ping":
      case "Close":
        return
    }
  }

  private onCommand({ actorId, generation, index }: Checkpoint, command: Command): void {
    if (this.introduction.version <= 3) this.lastCommand = index
    if (command._tag === "StopActor") {
      if (this.hosted.get(actorId)?.generation === generation) this.stop(actorId)
      return
    }
    // Whatever it hosted of this actor before is replaced.
    this.hosted.set(actorId, { generation, events: 0, history: [] })
    this.started.push({ actorId, generation, hibernating: command.hibernating })
    this.report(actorId, { _tag: "Running" })
  }

  private onFrame(heard: HeardFrame): Effect.Effect<void> {
    const { actorId, frame, route } = heard
    if (frame._tag === "RequestStart" && frame.method === "GET" && frame.body.length > 0) {
      return this.hosted.has(actorId) ? this.wire.frame(route, { ...answer(), status: 500 }) : Effect.void
    }
    return Effect.asVoid(Queue.offer(this.frames, heard))
  }
}

/** Such a runner, connected. */
export const play = Effect.fnUntraced(function* (introduction: ScriptedIntroduction) {
  const runner = new PlayedRunner(introduction, yield* Queue.unbounded<HeardFrame>())
  yield* runner.dial()
  return runner
})
