/**
 * Lines to standard output, a few writes a second: under load a write for each line costs a process more than a tenth of its time, and one for each turn of
 * its event loop still a thirtieth. What is left when the process exits leaves then.
 */
import { limits } from "../tunnel/Limits.ts"

/** Gathers lines for a moment. */
export class Lines {
  private text = ""
  private readonly write: (text: string) => void
  private readonly later: (f: () => void) => void

  constructor(write: (text: string) => void, later: (f: () => void) => void) {
    this.write = write
    this.later = later
  }

  /** Adds a line. */
  add(line: string): void {
    if (this.text === "") this.later(() => this.flush())
    this.text += `${line}\n`
  }

  /** Writes what was gathered. */
  flush(): void {
    if (this.text === "") return
    const text = this.text
    this.text = ""
    this.write(text)
  }
}

/** Those of this process. */
export const standardOutput = new Lines(
  (text) => {
    process.stdout.write(text)
  },
  (f) => {
    setTimeout(f, limits.logGatherMs)
  }
)
process.once("exit", () => standardOutput.flush())
// A reader that goes away, a log collector that is restarted say, takes its lines with it and not the process.
process.stdout.on("error", () => {})
