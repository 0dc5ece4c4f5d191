/**
 * A visitor as the gateway sees one, free of any platform: an HTTP exchange, or an upgrade to a WebSocket.
 *
 * `server/NodeServer.ts` implements both over `node:http` and `ws`, `testing/MemoryVisitor.ts` in memory. Everything here is called from one
 * thread and answers at once; where waiting is needed, a `when…Unsafe` takes a callback that is called at most once, never before it returns
 * from an earlier state change, and at once where the condition already holds.
 */
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { HeaderList } from "../tunnel/Frame.ts"

/** What a visitor asked, as received: nothing is lower-cased, merged or removed. */
export interface VisitorHead {
  readonly method: string
  /** The request target as sent: origin-form, absolute-form, or `*`. */
  readonly target: string
  readonly headers: HeaderList
  /** `1.0` or `1.1`. */
  readonly httpVersion: string
  /** The address of the socket's other end: the visitor, or a proxy before it. */
  readonly remoteAddress: string
  /** Whether the socket is TLS. */
  readonly encrypted: boolean
}

/** The first header of that name, empty where there is none. */
export const headerOf = (head: VisitorHead, lower: string): string => {
  for (const [name, value] of head.headers) {
    if (name.length === lower.length && name.toLowerCase() === lower) return value
  }
  return ""
}

/** A piece of a request body. `end` is told with the last piece, which may be empty. */
export interface BodyPiece {
  readonly data: Uint8Array
  readonly end: boolean
}

/** The body a visitor sends. What is not taken stays in the visitor's socket beyond a small read-ahead: that is the backpressure. */
export interface RequestBody {
  /** At most `bytesMax` bytes of what has arrived; undefined where nothing has and the body goes on. With 0 only an end is told. After the end it is never called again. */
  readonly takeUnsafe: (bytesMax: number) => BodyPiece | undefined
  /** Calls `f` once `takeUnsafe` has something to give. */
  readonly whenReadableUnsafe: (f: () => void) => void
  /** The trailer section, complete once the end was taken. */
  readonly trailersUnsafe: () => HeaderList
}

/** Where the answer goes. Nothing throws, whatever the visitor's socket has become. */
export interface ResponseSink {
  /** A 1xx response. Dropped where the visitor speaks HTTP/1.0. */
  readonly informational: (status: number, headers: HeaderList) => void
  /** The head; it may wait for the first bytes of the body, so that both leave in one write. Framing follows from its content-length, or its absence. */
  readonly head: (status: number, headers: HeaderList) => void
  /** Sends the head now, without waiting for a body. */
  readonly flushHead: () => void
  /** Sends bytes at once. `false`: they are held, and `whenWritableUnsafe` tells when they are on their way. */
  readonly write: (data: Uint8Array) => boolean
  /** Calls `f` once what is held is below the mark again, or the visitor is gone. */
  readonly whenWritableUnsafe: (f: () => void) => void
  /** The complete and regular end, with the last bytes of the body: a small answer leaves in one write. */
  readonly end: (last: Uint8Array, trailers: HeaderList) => void
  /** Breaks the transfer, so that the visitor cannot take it for complete. */
  readonly destroy: () => void
}

/** One request and its answer. */
export interface HttpExchange {
  readonly head: VisitorHead
  /** Undefined where the request has no body: then there is no upload work at all. */
  readonly body: RequestBody | undefined
  readonly response: ResponseSink
  /** Calls `f` once: `true` when the answer has left completely, `false` when the visitor left or was cut before. */
  readonly whenDoneUnsafe: (f: (complete: boolean) => void) => void
}

/** A visitor that asks for a WebSocket. Exactly one of `accept` and `refuse` is used. */
export interface VisitorUpgrade {
  readonly head: VisitorHead
  /** Completes the handshake with these headers and this subprotocol (empty for none). A visitor that left meanwhile gives a socket that is closed. */
  readonly accept: (headers: HeaderList, protocol: string) => MessageSocket
  /** Answers HTTP instead and closes. */
  readonly refuse: (status: number, headers: HeaderList, body: Uint8Array) => void
  /** Calls `f` once when the visitor left before either. */
  readonly whenGoneUnsafe: (f: () => void) => void
}
