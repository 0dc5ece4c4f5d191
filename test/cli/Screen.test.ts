import { assert, it } from "@effect/vitest"
import { type Cause, Effect, Exit, Queue, Scope, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { TestClock } from "effect/testing"
import type { Glass } from "../../src/cli/LiveView.ts"
import { paintAll, show } from "../../src/cli/Screen.ts"

const enter = "\u001b[?1049h\u001b[?25l"
const leave = "\u001b[?25h\u001b[?1049l"

/** A terminal that remembers what was written to it, and whose size can change. */
const makeTerminal = Effect.gen(function* () {
  const written: Array<string> = []
  const sizes = yield* Queue.sliding<Terminal.Size, Cause.Done>(1)
  yield* Queue.offer(sizes, { columns: 80, rows: 24 })
  const terminal = Terminal.make({
    columns: Effect.succeed(80),
    rows: Effect.succeed(24),
    size: Effect.succeed(sizes),
    readInput: Effect.die("the live view reads no input"),
    readLine: Effect.die("the live view reads no input"),
    display: (text) => Effect.sync(() => void written.push(text))
  })
  return { written, sizes, terminal }
})

const shown = Effect.fnUntraced(function* (render: (glass: Glass) => ReadonlyArray<string>) {
  const { sizes, terminal, written } = yield* makeTerminal
  const scope = yield* Scope.make()
  yield* show(render).pipe(
    Scope.provide(scope),
    Effect.provideService(Terminal.Terminal, terminal),
    Effect.provideService(TerminalCapabilities.TerminalCapabilities, {
      canColor: false,
      canAnimate: true,
      canPrompt: false
    })
  )
  yield* TestClock.adjust("1 millis")
  return { written, sizes, close: Scope.close(scope, Exit.void) }
})

it.effect("takes the terminal over, and gives it back whatever ends it", () =>
  Effect.gen(function* () {
    const { close, written } = yield* shown(() => ["one"])
    assert.deepStrictEqual(written, [enter, paintAll(["one"])])
    yield* close
    assert.strictEqual(written.at(-1), leave)
    yield* TestClock.adjust("10 seconds")
    assert.strictEqual(written.at(-1), leave)
  })
)

it.effect("writes only when the picture has changed, and at most ten times a second", () =>
  Effect.gen(function* () {
    let line = "one"
    let renders = 0
    const { close, written } = yield* shown(() => {
      renders++
      return [line]
    })
    yield* TestClock.adjust("1 seconds")
    assert.strictEqual(written.length, 2)
    assert.isAtMost(renders, 12)
    line = "two"
    yield* TestClock.adjust("1 seconds")
    assert.deepStrictEqual(written.slice(2), [paintAll(["two"])])
    yield* close
  })
)

it.effect("draws anew, at the new size, when the window was resized", () =>
  Effect.gen(function* () {
    const { close, sizes, written } = yield* shown(({ columns, rows }) => [`${columns}x${rows}`])
    yield* Queue.offer(sizes, { columns: 40, rows: 10 })
    yield* TestClock.adjust("1 seconds")
    assert.deepStrictEqual(written.slice(1), [paintAll(["80x24"]), paintAll(["40x10"])])
    yield* close
  })
)

it("overwrites each line and clears what is below, so nothing flickers and nothing stays", () => {
  assert.strictEqual(paintAll(["a", "b"]), "\u001b[Ha\u001b[K\r\nb\u001b[K\u001b[J")
})
