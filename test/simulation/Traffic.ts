/**
 * What visitors ask in a simulation, what the app behind each runner answers, and what must be true of every answer. Every byte says whose it is
 * and where it stands, so an answer that reaches somebody else, or arrives in another order, shows by itself.
 */
import { Effect, Fiber } from "effect"
import { AppFailure, type RunnerApp } from "../../src/runner/RunnerApp.ts"
import type { MessageSocket } from "../../src/socket/MessageSocket.ts"
import { MemoryUpgrade, MemoryVisitor } from "../../src/testing/MemoryVisitor.ts"
import type { HeaderList } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import type { LiveGateway, Served } from "./Cluster.ts"
import { bytesMax, type Place } from "./Place.ts"
import type { Situations } from "./Situations.ts"
import { forgedStatus } from "./Watch.ts"
import type { World } from "./World.ts"

// One whole turn of the pattern, longer than any body by as much as it takes to begin anywhere in it.
const turn = 0x10000
const sheet = new Uint8Array(turn + bytesMax)
for (let i = 0; i < sheet.length; i++) sheet[i] = (i * 11 + (i >> 8)) & 0xff
// Visits differ by where on the sheet they begin, and no two beginnings look alike for long.
const beginOf = (visit: number) => (visit * 2_647) % turn

/** The bytes of one visit from `offset` on. Not to be written to. */
export const pattern = (visit: number, offset: number, length: number): Uint8Array => {
  const begin = beginOf(visit) + offset
  return sheet.subarray(begin, begin + length)
}

/** Whether these are the bytes of one visit from `offset` on. */
export const follows = (visit: number, offset: number, data: Uint8Array): boolean =>
  Buffer.compare(pattern(visit, offset, data.length), data) === 0

const modes = ["whole", "streamed", "trailers", "echo", "fail", "hang", "return", "slow"] as const

/** What a visit asks for: it stands in the target, so that the app needs no other knowledge. */
interface Wish {
  readonly visit: number
  readonly mode: (typeof modes)[number]
  readonly bytes: number
}

const targetOf = ({ bytes, mode, visit }: Wish) => `/${mode}/${visit}/${bytes}`
/** What a target asks for. */
export const wishOf = (target: string): Wish => {
  const [, mode, visit, bytes] = target.split("/")
  return { mode: mode as Wish["mode"], visit: Number(visit), bytes: Number(bytes) }
}

/** The app behind every runner of a namespace. Its waits are drawn from the world's chance. */
export const app = (world: World, namespace: string): RunnerApp["Service"] => {
  const wait = Effect.suspend(() => Effect.sleep(world.random.below(400)))
  return {
    request: Effect.fnUntraced(function* (stream) {
      const { bytes, mode, visit } = wishOf(stream.target)
      const headers = tagsOf(namespace, visit)
      const half = bytes >> 1
      switch (mode) {
        case "whole":
          return yield* stream.respond(200, headers, pattern(visit, 0, bytes))
        case "streamed":
        case "trailers":
          yield* stream.start(200, headers)
          yield* stream.write(pattern(visit, 0, half))
          yield* wait
          yield* stream.write(pattern(visit, half, bytes - half))
          return yield* stream.finish(mode === "trailers" ? [["x-end", String(visit)]] : undefined)
        case "echo": {
          yield* stream.start(200, headers)
          while (!stream.bodyTaken && stream.end === undefined) {
            const chunks = yield* Effect.catch(stream.pull, () => Effect.succeed([]))
            if (chunks.length === 0) break
            for (const chunk of chunks) yield* stream.write(chunk)
          }
          return yield* stream.finish()
        }
        case "fail":
          yield* wait
          return yield* new AppFailure({ code: "app_failed", message: "as it was told" })
        case "hang":
          return yield* Effect.never
        case "return":
          return
        case "slow":
          yield* wait
          yield* wait
          return yield* stream.respond(200, headers, pattern(visit, 0, bytes))
      }
    }),
    webSocket: Effect.fnUntraced(function* (stream) {
      const { bytes, visit } = wishOf(stream.target)
      yield* stream.accept(tagsOf(namespace, visit))
      let left = bytes
      while (left > 0) {
        const message = yield* Effect.catch(stream.pull, () => Effect.succeed(undefined))
        if (message === undefined) return
        yield* stream.send(message.data)
        left -= message.data.length
      }
    })
  }
}

/** How an answer says whose it is. */
export const tagsOf = (namespace: string, visit: number) =>
  [
    ["x-visit", String(visit)],
    ["x-namespace", namespace]
  ] as const

/** What is wrong with the tags of an answer, if anything: whose it is, and from where. */
const strayed = (headers: HeaderList, namespace: string, visit: number): string | undefined => {
  const tag = headers.find(([name]) => name === "x-visit")?.[1]
  if (tag !== String(visit)) return `got the answer to visit ${tag}`
  const space = headers.find(([name]) => name === "x-namespace")?.[1]
  return space === namespace ? undefined : `of ${namespace} got its answer from ${space}`
}

/** Where a simulation says what went wrong, and what it counts. */
export interface Ledger {
  readonly world: World
  readonly violate: (what: string) => void
  /** The bus loses or reorders what it confirmed. */
  lossy: boolean
  requests: number
  complete: number
  open: number
  /** Nothing goes wrong but on the wires of runners. */
  quiet: boolean
  readonly situations: Situations
}

/** Whether what its runner said for a visit has to have come: nothing went wrong that could have kept it away. */
const isOwed = ({ quiet }: Ledger, { record }: Place, visit: number, breaksBefore: number, left: boolean): boolean =>
  quiet && record?.owes(visit, breaksBefore) === true && !left

/** Where what was confirmed may be lost a visitor who would wait for ever gives up after this long; elsewhere there is no reason to. */
const patienceMs = 60_000
/** No visit may take longer, whatever befalls it. */
const deadlineMs = 240_000
/** One to an app that never answers: the gateway's own deadline, and what the way there and back may take. */
const unansweredMs = limits.responseStartMs + 2 * limits.hubAnswerMs + 10_000
/** How long a visitor hopes before it looks again whether it may. */
const hopeMs = 60_000
/** And none goes on for longer once its visitor has left: a hub that has not answered yet, and a slow bus. */
const departureMs = 3 * limits.hubAnswerMs

/** Has the gateway serve a visitor, and sees to it that it ends: by itself within its deadline, and soon once the visitor has left. */
const serve = Effect.fnUntraced(function* (
  ledger: Ledger,
  { serving }: LiveGateway,
  options: {
    readonly what: string
    readonly deadlineMs: number
    /** Whether the visitor may be waiting for what cannot come any more, and nobody can know: then it gives up. Asked now and then. */
    readonly isHopeless: () => boolean
    readonly leaves: boolean
    readonly leave: () => void
    readonly work: Effect.Effect<void>
  }
) {
  const { violate, world } = ledger
  const { what } = options
  ledger.requests++
  ledger.open++
  const timers: Array<() => void> = []
  const leave = () => {
    timers.push(world.after(departureMs, () => violate(`${what} did not end though its visitor had left`)))
    options.leave()
  }
  timers.push(
    world.after(ledger.lossy ? patienceMs : options.deadlineMs, () => {
      if (!ledger.lossy) violate(`${what} did not end within its deadline`)
      leave()
    })
  )
  const hoping = () => {
    if (options.isHopeless()) leave()
    else timers.push(world.after(hopeMs, hoping))
  }
  timers.push(world.after(hopeMs, hoping))
  if (options.leaves) timers.push(world.after(world.random.below(2_000), leave))
  const served: Served = { fiber: yield* Effect.forkChild(options.work), leave }
  serving.add(served)
  yield* Fiber.await(served.fiber)
  serving.delete(served)
  for (const cancel of timers) cancel()
  ledger.open--
})

/** What a visitor has received so far is the beginning of its own answer; the whole of it where the answer is complete. */
const judge = (ledger: Ledger, namespace: string, place: Place, wish: Wish, visitor: MemoryVisitor): void => {
  const { answer } = visitor
  const what = `visit ${wish.visit} (${wish.mode})`
  if (answer.status === forgedStatus) return ledger.violate(`${what} got a forged answer`)
  if (answer.state === "open") return ledger.violate(`${what} is still open`)
  if (answer.status !== 200) return
  const astray = strayed(answer.headers, namespace, wish.visit)
  if (astray !== undefined) return ledger.violate(`${what} ${astray}`)
  let offset = 0
  for (const chunk of answer.chunks) {
    if (!follows(wish.visit, offset, chunk)) return ledger.violate(`${what}: wrong bytes after ${offset}`)
    offset += chunk.length
  }
  if (answer.state !== "complete") return
  ledger.complete++
  if (offset !== wish.bytes) ledger.violate(`${what} is complete with ${offset} of ${wish.bytes} bytes`)
  if (wish.mode === "trailers" && answer.trailers.length === 0 && !place.rivet)
    ledger.violate(`${what} is complete without its trailers`)
}

/** One HTTP visit from its request to its end. */
export const visitHttp = Effect.fnUntraced(function* (ledger: Ledger, entry: LiveGateway, place: Place, visit: number) {
  const { world } = ledger
  const host = `${place.name}.localhost`
  const { record, sizes } = place
  const breaksBefore = record?.breaks ?? 0
  let left = false
  const pick = <A>(from: ReadonlyArray<A>): A => from[world.random.below(from.length)] as A
  const mode = pick(modes)
  const wish: Wish = { visit, mode, bytes: pick(sizes) }
  const slow = world.random.below(4) === 0
  const visitor = new MemoryVisitor({
    method: mode === "echo" ? "POST" : "GET",
    target: targetOf(wish),
    headers: [["Host", host]],
    hasBody: mode === "echo",
    ...(slow && { unreadBytesMax: 10_000 })
  })
  world.note(`visit ${visit} asks ${host} in ${entry.namespace} for ${targetOf(wish)}`)
  const upload = Effect.gen(function* () {
    for (let offset = 0; offset < wish.bytes; ) {
      const length = Math.min(wish.bytes - offset, 1 + world.random.below(60_000))
      visitor.send(pattern(visit, offset, length))
      offset += length
      if (world.random.below(2) === 0) yield* Effect.sleep(world.random.below(100))
    }
    visitor.endBody()
  })
  const reading = Effect.forever(
    Effect.suspend(() => {
      visitor.read(world.random.below(60_000))
      return Effect.sleep(50)
    })
  )
  if (mode === "echo") yield* Effect.forkChild(upload)
  if (slow) yield* Effect.forkChild(reading)
  yield* serve(ledger, entry, {
    what: `visit ${visit} (${mode})`,
    deadlineMs: mode === "hang" ? unansweredMs : deadlineMs,
    isHopeless: () => false,
    leaves: world.random.below(5) === 0,
    leave: () => {
      left = true
      visitor.leave()
    },
    work: entry.gateway.request(visitor.exchange)
  })
  world.note(`visit ${visit} ends ${visitor.answer.status} ${visitor.answer.state}`)
  judge(ledger, entry.namespace, place, wish, visitor)
  const { state, status } = visitor.answer
  if (isOwed(ledger, place, visit, breaksBefore, left) && (status !== 200 || state !== "complete")) {
    ledger.violate(`visit ${visit} (${mode}) was answered over a connection that stands, and got ${status}`)
  }
})

/** How a conversation over a WebSocket went. */
interface Talk {
  /** The visitor closed before it had heard everything. */
  enough: boolean
  receivedBytes: number
}

/**
 * Sends messages and expects each back, in order, until the app or the visitor closes. `mayMiss`: whole messages may be missing, nothing else; where
 * the bus reorders what it confirmed, they may also come in another order.
 */
const converse = Effect.fnUntraced(function* (
  ledger: Ledger,
  visit: number,
  bytes: number,
  place: Place,
  socket: MessageSocket,
  talk: Talk,
  mayMiss: () => boolean
) {
  const { world } = ledger
  const { messagesMin, paceMs } = place.talk
  const messageBytesMax = messagesMin === 1 ? 40_000 : Math.ceil(bytes / messagesMin)
  const begins: Array<number> = []
  const sending = Effect.gen(function* () {
    for (let offset = 0; offset < bytes; ) {
      const length = Math.min(bytes - offset, 1 + world.random.below(messageBytesMax))
      begins.push(offset)
      socket.sendUnsafe(pattern(visit, offset, length), { binary: true, finish: true })
      offset += length
      yield* Effect.sleep(world.random.below(paceMs))
      if (world.random.below(40) !== 0) continue
      talk.enough = true
      socket.closeUnsafe(1000, "enough")
    }
  })
  yield* Effect.forkChild(sending)
  const receive = (data: Uint8Array) => {
    let at: number | undefined = talk.receivedBytes
    if (!follows(visit, at, data) && mayMiss()) {
      at = begins.find((begin) => (begin > talk.receivedBytes || ledger.lossy) && follows(visit, begin, data))
    }
    if (at === undefined || !follows(visit, at, data)) {
      ledger.violate(`socket ${visit}: wrong bytes after ${talk.receivedBytes}`)
    }
    talk.receivedBytes = (at ?? talk.receivedBytes) + data.length
  }
  const receiving = Effect.forever(
    Effect.map(socket.pull, (batch) => {
      for (const { data } of batch) receive(data)
    })
  )
  yield* Effect.ignore(receiving)
  if (talk.receivedBytes === bytes) ledger.complete++
  else if (talk.receivedBytes > bytes)
    ledger.violate(`socket ${visit} got ${talk.receivedBytes} of ${bytes} bytes back`)
})

/** One WebSocket visit from its handshake to its end. */
export const visitSocket = Effect.fnUntraced(function* (
  ledger: Ledger,
  entry: LiveGateway,
  place: Place,
  visit: number
) {
  const { world } = ledger
  const host = `${place.name}.localhost`
  const { record, sizes } = place
  const breaksBefore = record?.breaks ?? 0
  const mayMiss = () => place.rivet && ((record?.breaks ?? 0) > breaksBefore || ledger.lossy)
  const talk: Talk = { enough: false, receivedBytes: 0 }
  let left = false
  const bytes = sizes[world.random.below(sizes.length)] as number
  const visitor = new MemoryUpgrade({
    target: targetOf({ visit, mode: "echo", bytes }),
    headers: [
      ["Host", host],
      ["Connection", "Upgrade"],
      ["Upgrade", "websocket"],
      ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
      ["Sec-WebSocket-Version", "13"]
    ],
    soon: world.soon
  })
  world.note(`socket ${visit} asks ${host} in ${entry.namespace} for ${bytes}`)
  const talking = Effect.flatMap(visitor.answered, (answer) => {
    if (answer._tag === "Refused") return Effect.void
    // An error is told by an accepted socket that is closed at once; it carries no tag. Neither does any in Rivet's dialects: what is said over it tells.
    const isTagged = answer.headers.some(([name]) => name === "x-visit")
    if (!isTagged && !place.rivet) return Effect.void
    const astray = isTagged ? strayed(answer.headers, entry.namespace, visit) : undefined
    if (astray !== undefined) ledger.violate(`socket ${visit} ${astray}`)
    return converse(ledger, visit, bytes, place, answer.socket, talk, mayMiss)
  })
  yield* Effect.forkChild(talking)
  yield* serve(ledger, entry, {
    what: `socket ${visit}`,
    deadlineMs,
    isHopeless: mayMiss,
    leaves: world.random.below(4) === 0,
    leave: () => {
      left = true
      visitor.leave()
    },
    work: entry.gateway.upgrade(visitor.upgrade)
  })
  world.note(`socket ${visit} ends`)
  const isExcused = talk.enough || record?.parted.has(visit) === true || record?.breaks !== breaksBefore
  if (talk.receivedBytes !== bytes && !isExcused && isOwed(ledger, place, visit, breaksBefore, left)) {
    ledger.violate(`socket ${visit} got ${talk.receivedBytes} of ${bytes} bytes back, over a connection that stands`)
  }
})
