/**
 * Our codecs beside `@rivetkit/engine-runner-protocol`, in one process and one run. Alone: `node test/bench/codec.ts`.
 *
 * Each row is the median of many short rounds in which the contenders take turns, and `times` the median of the rounds' own ratios, so that
 * what the machine does meanwhile hits all alike.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Published from "@rivetkit/engine-runner-protocol"
import * as Bare from "../../src/protocol/Bare.ts"
import * as V7 from "../../src/protocol/rivet/V7.ts"
import { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { tableOf } from "../cluster/Table.ts"
import { toPublished } from "../conformance/Notation.ts"
import { median } from "./Statistics.ts"

/** Nanoseconds for one operation, ours and theirs; `times` says how many times ours fits into theirs. */
export interface CodecRow {
  readonly message: string
  readonly operation: "encode" | "decode"
  /** Rivet version 7. */
  readonly v7Ns: number
  readonly publishedNs: number
  readonly times: number
  /** The same content as a frame of the model, the form `wayleave.1` sends. */
  readonly modelNs: number
}

interface Case {
  readonly message: string
  readonly v7: V7.ToServer | V7.ToClient
  readonly direction: "up" | "down"
  readonly model: RequestFrame | ResponseFrame | null
}

const id = () => new Uint8Array([1, 2, 3, 4])
const messageId = { gatewayId: id(), requestId: id(), messageIndex: 7 }

const chunk = (message: string, size: number): Case => {
  const body = new Uint8Array(size).fill(97)
  return {
    message,
    direction: "up",
    v7: {
      tag: "ToServerTunnelMessage",
      val: { messageId, messageKind: { tag: "ToServerResponseChunk", val: { body, finish: false } } }
    },
    model: { _tag: "ResponseChunk", body, finish: false }
  }
}

const headers: ReadonlyArray<readonly [string, string]> = [
  ["host", "web.example.com"],
  ["accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
  ["accept-encoding", "gzip, deflate, br"],
  ["user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"],
  ["x-forwarded-for", "203.0.113.7"]
]

const cases: ReadonlyArray<Case> = [
  chunk("64 B chunk", 64),
  chunk("16 KiB chunk", 16 * 1024),
  chunk("1 MiB chunk", 1024 * 1024),
  {
    message: "request start, 5 headers",
    direction: "down",
    v7: {
      tag: "ToClientTunnelMessage",
      val: {
        messageId,
        messageKind: {
          tag: "ToClientRequestStart",
          val: {
            actorId: "0123456789abcdef",
            method: "GET",
            path: "/api/items?limit=20",
            headers: new Map(headers),
            body: null,
            stream: false
          }
        }
      }
    },
    model: {
      _tag: "RequestStart",
      method: "GET",
      target: "/api/items?limit=20",
      headers,
      body: new Uint8Array(0),
      streamed: false
    }
  },
  {
    message: "batch of 50 events",
    direction: "up",
    v7: {
      tag: "ToServerEvents",
      val: Array.from({ length: 50 }, (_, i) => ({
        checkpoint: { actorId: `actor-${i % 5}-0123456789`, generation: 3, index: BigInt(1000 + i) },
        inner:
          i % 3 === 0
            ? ({ tag: "EventActorSetAlarm", val: { alarmTs: 1_700_000_000_000n } } as const)
            : ({
                tag: "EventActorStateUpdate",
                val: { state: { tag: "ActorStateStopped", val: { code: "Ok", message: null } } }
              } as const)
      }))
    },
    model: null
  }
]

const downModel = Bare.make(RequestFrame)
const upModel = Bare.make(ResponseFrame)

/** The last result, so that the optimiser cannot leave out what is measured. */
export let kept: unknown
const keep = (value: unknown) => {
  kept = value
}

const calibrate = (run: () => unknown, roundMs: number): number => {
  let count = 1
  for (;;) {
    const began = performance.now()
    for (let i = 0; i < count; i++) keep(run())
    const tookMs = performance.now() - began
    if (tookMs > roundMs / 4) return Math.max(1, Math.round((count * roundMs) / tookMs))
    count *= 4
  }
}

setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc") as (options: { readonly type: "minor" }) => void

/**
 * Nanoseconds of each contender in each round. Rounds are short and alternate, so that a busy machine slows all of them alike. Each begins on
 * a swept heap: else one contender's rounds fall where the other's garbage is cleared away, for a whole run. Swept, not collected whole: that would throw machine code away as well.
 */
const race = (contenders: ReadonlyArray<() => unknown>, rounds: number, roundMs: number): Array<Array<number>> => {
  for (const run of contenders) calibrate(run, 50)
  const counts = contenders.map((run) => calibrate(run, roundMs))
  const results = contenders.map((): Array<number> => [])
  for (let round = 0; round < rounds; round++)
    for (const [which, run] of contenders.entries()) {
      const count = counts[which] as number
      gc({ type: "minor" })
      const began = performance.now()
      for (let i = 0; i < count; i++) keep(run())
      results[which]?.push(((performance.now() - began) * 1e6) / count)
    }
  return results
}

/** Runs the table. `roundMs` and `rounds` trade precision for time. */
export const codecBench = (
  options: { readonly rounds?: number; readonly roundMs?: number } = {}
): Promise<ReadonlyArray<CodecRow>> => Promise.resolve(codecRows(options))

const codecRows = (options: { readonly rounds?: number; readonly roundMs?: number }): Array<CodecRow> => {
  const { rounds = 61, roundMs = 8 } = options
  const rows: Array<CodecRow> = []
  for (const { message, direction, v7, model } of cases) {
    const codec = (direction === "up" ? V7.codecs.ToServer : V7.codecs.ToClient) as Bare.Codec<unknown>
    const modelCodec = (direction === "up" ? upModel : downModel) as Bare.Codec<unknown>
    const theirEncode = direction === "up" ? Published.encodeToServer : Published.encodeToClient
    const theirDecode = direction === "up" ? Published.decodeToServer : Published.decodeToClient
    const theirs = toPublished(v7) as never
    const bytes = codec.encode(v7)
    // A socket hands out Buffers. The published codec takes a Buffer's `slice` for a copy, which it is not, so it gets a plain array.
    const theirBytes = new Uint8Array(bytes)
    const modelBytes = model === null ? null : modelCodec.encode(model)
    const add = (operation: CodecRow["operation"], [ours = [], theirs = [], ofModel = []]: Array<Array<number>>) =>
      rows.push({
        message,
        operation,
        v7Ns: median(ours),
        publishedNs: median(theirs),
        times: median(theirs.map((ns, round) => ns / (ours[round] as number))),
        modelNs: ofModel.length === 0 ? Number.NaN : median(ofModel)
      })
    add(
      "encode",
      race(
        [
          () => codec.encode(v7),
          () => theirEncode(theirs),
          ...(model === null ? [] : [() => modelCodec.encode(model)])
        ],
        rounds,
        roundMs
      )
    )
    add(
      "decode",
      race(
        [
          () => codec.decode(bytes),
          () => theirDecode(theirBytes) as unknown,
          ...(modelBytes === null ? [] : [() => modelCodec.decode(modelBytes)])
        ],
        rounds,
        roundMs
      )
    )
  }
  return rows
}

/** The rows as a table for people. */
export const codecTable = (rows: ReadonlyArray<CodecRow>): string =>
  tableOf(
    ["message", "operation", "ns, Rivet version 7", "ns, published package", "times", "ns, the model of wayleave.1"],
    rows.map(({ message, modelNs, operation, publishedNs, times, v7Ns }) => [
      message,
      operation,
      v7Ns.toFixed(0),
      publishedNs.toFixed(0),
      times.toFixed(2),
      Number.isNaN(modelNs) ? "–" : modelNs.toFixed(0)
    ])
  )

if (process.argv[1] === import.meta.filename) process.stdout.write(`${codecTable(await codecBench())}\n`)
