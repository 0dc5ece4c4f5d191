/**
 * Writes the control plane's commands to one runner, over one connection and in order. An actor that starts is told of every WebSocket that waits for
 * it, and their routes are issued before it can answer; their gateways hear of it afterwards.
 */
import { Effect } from "effect"
import type { NumberedCommand } from "../../actor/ActorMessage.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import { absurd } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import type { LastingSocket, LastingSockets, RivetHost } from "./LastingSockets.ts"

/** What the commands of a connection need of it. */
export interface ActorCommandsOptions {
  readonly host: RivetHost
  readonly lasting: LastingSockets
  /** Commands are numbered for the whole runner. */
  readonly mark: 1 | 2
  /** The connection is the one that its session has now. What was ordered over another is ordered again over this, and must not be told twice. */
  readonly isCurrent: () => boolean
  readonly runFork: (effect: Effect.Effect<void>) => void
}

/** Takes commands; they are written in this order, at once but for a start whose WebSockets are not asleep yet. */
export const makeActorCommands = (
  options: ActorCommandsOptions
): ((commands: ReadonlyArray<NumberedCommand>) => void) => {
  const { host, isCurrent, lasting } = options
  const { peer } = host
  const queue = new Fifo<NumberedCommand>()
  let writing = false

  const say = (numbered: NumberedCommand) => {
    const command = options.mark === 1 ? peer.numbers.number(numbered) : numbered
    peer.wire.say({ _tag: "Commands", commands: [command] })
  }

  /** Makes sure that nobody else has it. A visitor that does not take what the actor last said cannot hold up its next start for longer than this. */
  const vacate = (socket: LastingSocket) =>
    Effect.suspend(() => {
      if (socket.host === undefined) return Effect.void
      socket.stream.sleep()
      socket.stream.sleepSoon()
      socket.host.peer.enlist(socket.stream)
      return Effect.map(lasting.awaitSleep(socket, limits.lastingSocketMs), (sleeps) => {
        if (!sleeps) socket.host?.peer.fail(socket.stream, "actor_stopped", "the visitor is too slow for its actor")
      })
    })

  const start = Effect.fnUntraced(function* (
    numbered: NumberedCommand,
    command: Extract<NumberedCommand["command"], { readonly _tag: "StartActor" }>
  ) {
    const { actorId, generation } = numbered.checkpoint
    const isHere = ({ host: at, stream }: LastingSocket) =>
      at?.peer === peer && !stream.closed && stream.actor.generation === generation
    peer.actorStarts(numbered.checkpoint)
    yield* Effect.forEach(
      lasting.ofActor(actorId).filter((socket) => !isHere(socket)),
      vacate,
      { concurrency: "unbounded", discard: true }
    )
    if (!isCurrent()) return
    const attached: Array<LastingSocket> = []
    for (const socket of lasting.ofActor(actorId)) {
      if (isHere(socket) || (socket.host === undefined && (yield* lasting.attach(socket, host, generation)))) {
        attached.push(socket)
      }
    }
    say({ ...numbered, command: { ...command, hibernating: attached.map(({ stream }) => stream.route) } })
    peer.starts.note(numbered.checkpoint)
    for (const { stream } of attached) peer.enlist(stream)
  })

  const write = (numbered: NumberedCommand): Effect.Effect<void> =>
    Effect.suspend(() => {
      const { command } = numbered
      if (!isCurrent()) return Effect.void
      switch (command._tag) {
        case "StartActor":
          return start(numbered, command)
        case "StopActor":
          return Effect.sync(() => say(numbered))
      }
      return absurd(command)
    })

  const writeAll = Effect.gen(function* () {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) yield* write(next)
    writing = false
  })

  return (commands) => {
    for (const command of commands) queue.push(command)
    if (writing) return
    writing = true
    options.runFork(writeAll)
  }
}
