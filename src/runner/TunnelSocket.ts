/**
 * A visitor's WebSocket as Effect's `Socket`. Unlike Effect's own over a WebSocket, its writer waits while the visitor is slow.
 *
 * It is accepted when the app first reads or writes; closing the reader's scope closes it.
 */
import { type Array as Arr, Cause, Effect, Exit, Scope } from "effect"
import { Socket } from "effect/socket"
import type { HeaderList } from "../tunnel/Frame.ts"
import type { WebSocketMessage, WebSocketStream } from "./WebSocketStream.ts"

const decoder = new TextDecoder()

const content = ({ binary, data }: WebSocketMessage): Uint8Array | string => (binary ? data : decoder.decode(data))

const closeError = (code: number, closeReason: string) =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code, closeReason }) })

const endError = (stream: WebSocketStream) => {
  const { end } = stream
  return end?._tag === "Closed" ? closeError(end.code ?? 1005, end.reason) : closeError(1006, "")
}

const writeError = (stream: WebSocketStream) =>
  Effect.fail(new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause: endError(stream) }) }))

const closeCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit)) return 1000
  return Cause.hasInterruptsOnly(exit.cause) ? 1001 : 1011
}

const hasProtocol = (headers: HeaderList) => headers.some(([name]) => name === "sec-websocket-protocol")

/** The socket of a stream. `headers` go into the 101; without a subprotocol among them the visitor's first choice is taken. */
export const makeSocket = (stream: WebSocketStream, headers: HeaderList): Socket.Socket => {
  let accepted = false
  const accept = () => {
    if (accepted) return
    accepted = true
    const first = stream.protocols[0]
    const chosen: HeaderList =
      first === undefined || hasProtocol(headers) ? headers : [...headers, ["sec-websocket-protocol", first]]
    stream.acceptUnsafe(chosen)
  }

  const pull: Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array | string>, Socket.SocketError> = stream.pull.pipe(
    Effect.map((message) => {
      const contents: Arr.NonEmptyArray<Uint8Array | string> = [content(message)]
      let more = stream.takeMessageUnsafe()
      while (more !== undefined) {
        contents.push(content(more))
        more = stream.takeMessageUnsafe()
      }
      return contents
    }),
    Effect.catch(() => Effect.fail(endError(stream)))
  )

  const reader: Socket.Socket["reader"] = Effect.gen(function* () {
    const scope = yield* Effect.scope
    yield* Scope.addFinalizerExit(scope, (exit) =>
      Effect.sync(() => {
        if (stream.isOpen) stream.closeUnsafe(closeCode(exit), "")
      })
    )
    accept()
    return { pull, upgrade: Socket.SocketUpgradeError.unsupported }
  })

  const write = (chunk: Uint8Array | string | Socket.CloseEvent): Effect.Effect<void, Socket.SocketError> =>
    Effect.suspend(() => {
      accept()
      if (!stream.isOpen) return writeError(stream)
      if (Socket.isCloseEvent(chunk)) return stream.close(chunk.code, chunk.reason ?? "")
      return stream.send(chunk)
    })

  return Socket.make({
    reader,
    writer: Effect.succeed({
      write,
      writeAll: (chunks) => Effect.forEach(chunks, write, { discard: true })
    })
  })
}
