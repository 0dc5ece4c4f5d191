/**
 * Versions 1 to 3 number commands for the whole runner, the control plane for each actor: this gives a runner's commands its numbers, and knows which
 * of them a number stands for. Belongs to the session, since a runner that reconnects goes on counting.
 */
import type { Checkpoint, NumberedCommand } from "../../actor/ActorMessage.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import { limits } from "../../tunnel/Limits.ts"

/** The numbers of one runner's commands. */
export class CommandNumbers {
  private next = 0n
  private readonly unseen = new Fifo<{ readonly number: bigint; readonly checkpoint: Checkpoint }>()

  /** The command with its number in place of its own index. Beyond the bound the oldest are forgotten: a runner is then told them again. */
  number(numbered: NumberedCommand): NumberedCommand {
    const number = this.next++
    this.unseen.push({ number, checkpoint: numbered.checkpoint })
    if (this.unseen.length > limits.commandNumbersMax) this.unseen.shift()
    return { ...numbered, checkpoint: { ...numbered.checkpoint, index: number } }
  }

  /** The runner has seen commands up to this number: those they are. */
  seenUpTo(number: bigint): ReadonlyArray<Checkpoint> {
    if (number >= this.next) this.next = number + 1n
    const seen: Array<Checkpoint> = []
    for (let first = this.unseen.peek(); first !== undefined && first.number <= number; first = this.unseen.peek()) {
      seen.push(first.checkpoint)
      this.unseen.shift()
    }
    return seen
  }
}
