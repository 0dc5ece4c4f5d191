/**
 * Lines to standard output, one write a turn: under load a write for each line costs a process more than a tenth of its time. What a turn
 * wrote leaves at its end, and what is left when the process exits leaves then.
 */

/** Gathers lines until the turn ends. */
export class Lines {
  private text = ""
  private readonly write: (text: string) => void
  private readonly turn: (f: () => void) => void

  constructor(write: (text: string) => void, turn: (f: () => void) => void) {
    this.write = write
    this.turn = turn
  }

  /** Adds a line. */
  add(line: string): void {
    if (this.text === "") this.turn(() => this.flush())
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
    setImmediate(f)
  }
)
process.once("exit", () => standardOutput.flush())
