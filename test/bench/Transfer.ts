/**
 * Long bodies on bare sockets, so that the load costs less than what it measures: one buffer is read into again and again, one pattern is written, and
 * every byte is compared.
 */
import { connect } from "node:net"
import * as Content from "./Content.ts"
import type { Place } from "./Ways.ts"

const readBytes = 256 * 1024

/** The head of an answer, cut off from what follows it. */
export const takeHead = (): ((chunk: Buffer) => Buffer | undefined) => {
  let head = Buffer.alloc(0)
  let taken = false
  return (chunk) => {
    if (taken) return chunk
    head = Buffer.concat([head, chunk])
    const end = head.indexOf("\r\n\r\n")
    if (end < 0) return undefined
    const text = head.toString("latin1", 0, end)
    if (!/^HTTP\/1\.1 200/.test(text) || !/^content-length: \d+\r?$/im.test(text)) {
      throw new Error(`not an answer of known length: ${text}`)
    }
    taken = true
    return head.subarray(end + 4)
  }
}

/** Sends a request and has `onBody` judge what comes back, until it says that all is there. */
const exchange = (place: Place, head: string, bodyBytes: number, onBody: (bytes: Buffer) => boolean): Promise<void> =>
  new Promise((resolve, reject) => {
    const bodyOf = takeHead()
    let done = false
    const finish = (error?: Error) => {
      done = true
      socket.destroy()
      if (error === undefined) resolve()
      else reject(error)
    }
    const callback = (length: number, buffer: Uint8Array): boolean => {
      if (done) return false
      try {
        const body = bodyOf(Buffer.from(buffer.buffer, buffer.byteOffset, length))
        if (body !== undefined && onBody(body)) finish()
      } catch (error) {
        finish(error as Error)
      }
      return true
    }
    const socket = connect({
      port: place.port,
      host: "127.0.0.1",
      noDelay: true,
      onread: { buffer: Buffer.alloc(readBytes), callback }
    })
    socket.on("error", finish)
    socket.on("close", () => {
      if (!done) finish(new Error("the connection was closed"))
    })
    socket.write(head)
    let left = bodyBytes
    const more = () => {
      while (left > 0) {
        const part = Content.pieceAt(bodyBytes - left, left)
        left -= part.length
        if (!socket.write(part)) return void socket.once("drain", more)
      }
    }
    more()
  })

/** Downloads and checks. */
export const download = async (place: Place, bytes: number): Promise<void> => {
  const check = Content.checker()
  await exchange(place, `GET /down?${bytes} HTTP/1.1\r\nHost: ${place.host}\r\n\r\n`, 0, (body) => {
    check.add(body)
    return check.bytes() >= bytes
  })
  if (check.verdict() !== String(bytes)) throw new Error(`of ${bytes} bytes came: ${check.verdict()}`)
}

/** Uploads, and has the app check. */
export const upload = async (place: Place, bytes: number): Promise<void> => {
  let verdict = ""
  const head = `POST /up HTTP/1.1\r\nHost: ${place.host}\r\nContent-Length: ${bytes}\r\n\r\n`
  await exchange(place, head, bytes, (body) => {
    verdict += body.toString("latin1")
    return verdict.length >= String(bytes).length
  })
  if (verdict !== String(bytes)) throw new Error(`of ${bytes} bytes the app got: ${verdict}`)
}
