/**
 * Keeps a terminal showing what a function renders: on the alternate screen, redrawn in place, at most ten times a second and only when a line
 * changed. Whatever ends the scope gives the terminal back as it was.
 */
import { Effect, Queue, type Scope, Terminal } from "effect"
import { TerminalCapabilities } from "effect/cli"
import type { Glass } from "./LiveView.ts"

const enter = "\u001b[?1049h\u001b[?25l"
const leave = "\u001b[?25h\u001b[?1049l"
const home = "\u001b[H"
const clearLine = "\u001b[K"
const clearBelow = "\u001b[J"

/** Between two looks at the state. Ages and countdowns tick with it; a picture that did not change is not written. */
const redrawMs = 100

/** The bytes that bring a screen showing anything to show `lines`: every line is overwritten, nothing flickers. */
export const paintAll = (lines: ReadonlyArray<string>): string =>
  home + lines.map((line) => line + clearLine).join("\r\n") + clearBelow

/** Draws until the scope closes. Input is left alone, so that Ctrl-C stays a signal. */
export const show = Effect.fnUntraced(function* (
  render: (glass: Glass) => ReadonlyArray<string>
): Effect.fn.Return<void, never, Scope.Scope | Terminal.Terminal> {
  const terminal = yield* Terminal.Terminal
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  // A terminal that is gone cannot be drawn on, and the tunnel goes on without it.
  const write = (text: string) => Effect.ignore(terminal.display(text))
  yield* Effect.acquireRelease(write(enter), () => write(leave))
  const sizes = yield* terminal.size
  let size = yield* Effect.orDie(Queue.take(sizes))
  let shown = ""
  const draw = Effect.gen(function* () {
    const resized = yield* Effect.orElseSucceed(Queue.clear(sizes), () => [])
    if (resized.length > 0) {
      size = resized[resized.length - 1] ?? size
      shown = ""
    }
    const nowMs = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
    const picture = paintAll(render({ ...size, color: canColor, nowMs }))
    if (picture !== shown) yield* write(picture)
    shown = picture
    yield* Effect.sleep(redrawMs)
  })
  yield* Effect.forkScoped(Effect.forever(draw))
})
