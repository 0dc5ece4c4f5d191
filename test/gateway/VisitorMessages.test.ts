import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { HibernationBudget } from "../../src/gateway/HibernationBudget.ts"
import { VisitorMessages } from "../../src/gateway/VisitorMessages.ts"
import { SendWindow } from "../../src/tunnel/Credit.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const circle = 0x1_0000
const plenty = () => new SendWindow(Number.MAX_SAFE_INTEGER)
const budgetOf = (bytesMax: number = limits.hibernationBytesTotalMax) => new HibernationBudget(bytesMax, () => {})

/** A message that says its place: the n-th of the visitor. */
const nth = (n: number) => ({ data: new Uint8Array(new Uint32Array([n]).buffer), binary: true })
const placeOf = (data: Uint8Array) => new DataView(data.buffer, data.byteOffset, 4).getUint32(0, true)

const keeping = (budget = budgetOf(), rouse = () => {}) => {
  const messages = new VisitorMessages()
  messages.keep(budget, rouse)
  return messages
}

/** Sends all that waits, and answers which messages went. */
const sendAll = (messages: VisitorMessages): Array<number> => {
  const places: Array<number> = []
  for (const frame of messages.take(plenty(), 1_000_000)) {
    if (frame._tag === "WebSocketMessage") places.push(placeOf(frame.data))
  }
  return places
}

/** Brings a socket to where the next message has this number, everything before acknowledged. */
const upTo = (number: number) => {
  const messages = keeping()
  for (let n = 1; n < number; n++) {
    messages.push([nth(n)])
    sendAll(messages)
    if (n % 1000 === 0 || n === number - 1) messages.acknowledge(n % circle)
  }
  assert.isFalse(messages.unacknowledged)
  assert.strictEqual(messages.nextNumber, number % circle)
  return messages
}

describe("messages that are kept", () => {
  it("are numbered from 1, since the opening was 0, and go again from the first that is not acknowledged", () => {
    const messages = keeping()
    assert.strictEqual(messages.nextNumber, 1)
    messages.push([nth(1), nth(2), nth(3), nth(4)])
    assert.deepStrictEqual(sendAll(messages), [1, 2, 3, 4])
    assert.strictEqual(messages.nextNumber, 5)
    messages.acknowledge(2)
    messages.rewind()
    assert.strictEqual(messages.nextNumber, 3)
    assert.deepStrictEqual(sendAll(messages), [3, 4])
    messages.acknowledge(4)
    assert.isFalse(messages.unacknowledged)
    messages.rewind()
    assert.deepStrictEqual([messages.nextNumber, sendAll(messages)], [5, []])
  })

  it("are counted on over 65,535 to 0, with acknowledgements before, at and after the turn", () => {
    for (const [acknowledged, next] of [
      [65_533, 65_534],
      [65_534, 65_535],
      [65_535, 0],
      [0, 1],
      [1, 2]
    ] as const) {
      const messages = upTo(65_533)
      messages.push([nth(65_533), nth(65_534), nth(65_535), nth(65_536), nth(65_537)])
      sendAll(messages)
      assert.strictEqual(messages.nextNumber, 2)
      messages.acknowledge(acknowledged)
      messages.rewind()
      assert.strictEqual(messages.nextNumber, next)
      const rest = acknowledged >= 65_533 ? acknowledged : acknowledged + circle
      assert.deepStrictEqual(
        sendAll(messages),
        [65_533, 65_534, 65_535, 65_536, 65_537].filter((n) => n > rest)
      )
    }
  })

  it("are not let go by an acknowledgement of what was let go before, or was never sent", () => {
    const messages = upTo(65_534)
    messages.push([nth(65_534), nth(65_535), nth(65_536)])
    messages.take(plenty(), 2)
    for (const number of [65_533, 65_532, 40_000, 32_767, 32_766, 0, 1, 2]) messages.acknowledge(number)
    messages.rewind()
    assert.strictEqual(messages.nextNumber, 65_534)
    assert.deepStrictEqual(sendAll(messages), [65_534, 65_535, 65_536])
  })

  it("go again without a number left out, though an acknowledgement comes half-way", () => {
    const messages = keeping()
    messages.push([nth(1), nth(2), nth(3), nth(4)])
    sendAll(messages)
    messages.rewind()
    const credit = new SendWindow(6)
    // The first whole, and half of the second: then the app says that it had three of them.
    assert.lengthOf(messages.take(credit, 100), 2)
    messages.acknowledge(3)
    credit.grant(100)
    const rest = messages.take(credit, 100)
    assert.deepStrictEqual(
      rest.map((frame) => frame._tag === "WebSocketMessage" && [frame.data.length, frame.finish]),
      [
        [2, true],
        [4, true],
        [4, true]
      ]
    )
    messages.rewind()
    assert.deepStrictEqual([messages.nextNumber, sendAll(messages)], [4, [4]])
  })

  it("go again whole, where only a part had gone", () => {
    const messages = keeping()
    messages.push([nth(1)])
    assert.lengthOf(messages.take(new SendWindow(3), 100), 1)
    messages.rewind()
    const frames = messages.take(plenty(), 100)
    assert.deepStrictEqual(
      frames.map((frame) => frame._tag === "WebSocketMessage" && [placeOf(frame.data), frame.finish]),
      [[1, true]]
    )
  })

  it("leave room again as they are acknowledged, however much goes through in all", () => {
    const messages = keeping()
    const whole = { data: new Uint8Array(1024 * 1024), binary: true }
    for (let n = 1; n <= 300; n++) {
      messages.push([whole])
      messages.take(plenty(), 1000)
      assert.isTrue(messages.hasRoom)
      messages.acknowledge(n)
    }
    assert.isFalse(messages.unacknowledged)
  })

  it("fill the bound of their socket in bytes, and one acknowledged makes room", () => {
    const messages = keeping()
    const size = limits.hibernationBytesMax / 4
    for (let n = 1; n <= 3; n++) messages.push([{ data: new Uint8Array(size), binary: true }])
    assert.isTrue(messages.hasRoom)
    assert.isFalse(messages.stuck)
    messages.push([{ data: new Uint8Array(size), binary: true }])
    assert.isFalse(messages.hasRoom)
    assert.isTrue(messages.stuck)
    messages.take(plenty(), 1000)
    messages.acknowledge(1)
    assert.isTrue(messages.hasRoom)
    assert.isFalse(messages.stuck)
  })

  it("fill it in number too, and are not sent beyond it: old and new would be confused", () => {
    const messages = keeping()
    const empty = { data: new Uint8Array(0), binary: true }
    for (let n = 1; n < limits.hibernationMessagesMax; n++) messages.push([empty])
    assert.isTrue(messages.hasRoom)
    messages.push(Array.from({ length: 60_000 }, () => empty))
    assert.isFalse(messages.hasRoom)
    assert.lengthOf(messages.take(plenty(), 1_000_000), limits.hibernationMessagesMax)
    messages.acknowledge(10)
    assert.lengthOf(messages.take(plenty(), 1_000_000), 10)
  })

  it("do not keep alive the buffer that they were a small part of", () => {
    const budget = budgetOf()
    const messages = keeping(budget)
    const buffer = new ArrayBuffer(65_536)
    messages.push([{ data: new Uint8Array(buffer, 10, 4), binary: true }])
    messages.push([{ data: new Uint8Array(buffer, 10, 40_000), binary: true }])
    const [small, large] = messages.take(plenty(), 10)
    if (small?._tag !== "WebSocketMessage" || large?._tag !== "WebSocketMessage") return assert.fail("no message")
    assert.strictEqual(small.data.buffer.byteLength, 4)
    assert.strictEqual(large.data.buffer, buffer)
  })

  it.prop(
    "whatever is sent, acknowledged and gone over, the app hears every message, in order, none twice but by its number",
    { steps: Schema.Array(Schema.Literals(["push", "take", "ack", "rewind"])), seed: Schema.Int },
    ({ seed, steps }) => {
      const messages = upTo(65_530)
      let pushed = 65_529
      let heard = 65_529
      let number = 65_530 % circle
      let chance = Math.abs(seed) % 1000
      for (const step of [...steps, "rewind", "take"] as const) {
        chance = (chance * 31 + 7) % 1000
        if (step === "push") messages.push([nth(++pushed)])
        if (step === "rewind") {
          messages.rewind()
          number = messages.nextNumber
        }
        // What an app acknowledges, it has heard.
        if (step === "ack") messages.acknowledge((heard - (chance % 3)) % circle)
        if (step !== "take") continue
        for (const frame of messages.take(plenty(), 1 + (chance % 4) + (steps.length === 0 ? 100 : 0))) {
          if (frame._tag !== "WebSocketMessage") return false
          const place = placeOf(frame.data)
          if (place % circle !== number) return false
          number = (number + 1) % circle
          if (place > heard + 1) return false
          heard = Math.max(heard, place)
        }
      }
      for (const place of sendAll(messages)) {
        if (place > heard + 1) return false
        heard = Math.max(heard, place)
      }
      return heard === pushed
    },
    { arbitrary: { runs: 25 } }
  )
})

describe("messages that are not kept", () => {
  it("are gone when they are sent, and none is read before", () => {
    const messages = new VisitorMessages()
    messages.push([nth(1), nth(2)])
    assert.isFalse(messages.hasRoom)
    assert.isFalse(messages.stuck)
    assert.deepStrictEqual(sendAll(messages), [1, 2])
    assert.isTrue(messages.hasRoom)
    assert.isFalse(messages.unacknowledged)
    messages.rewind()
    assert.deepStrictEqual(sendAll(messages), [])
  })
})

describe("the budget of all sockets", () => {
  it("stops all of them when it is reached, blames those with their share, and tells all when there is room", () => {
    const budget = budgetOf(10_000)
    let roused = 0
    const [heavy, light, idle] = [1, 2, 3].map(() => keeping(budget, () => roused++)) as [
      VisitorMessages,
      VisitorMessages,
      VisitorMessages
    ]
    light.push([{ data: new Uint8Array(1_000), binary: true }])
    assert.strictEqual(roused, 0)
    heavy.push([{ data: new Uint8Array(9_000), binary: true }])
    assert.strictEqual(roused, 3)
    assert.deepStrictEqual(
      [heavy, light, idle].map((messages) => [messages.hasRoom, messages.stuck]),
      [
        [false, true],
        [false, false],
        [false, false]
      ]
    )
    heavy.take(plenty(), 10)
    heavy.acknowledge(1)
    assert.strictEqual(roused, 6)
    assert.isTrue(idle.hasRoom)
  })

  it("is given back by a socket that ends, once", () => {
    let held = 0
    const budget = new HibernationBudget(1_000, (bytes) => {
      held += bytes
    })
    const messages = keeping(budget)
    messages.push([{ data: new Uint8Array(5_000), binary: true }])
    assert.isTrue(budget.full)
    messages.discard()
    messages.discard()
    assert.isFalse(budget.full)
    assert.strictEqual(held, 0)
  })
})
