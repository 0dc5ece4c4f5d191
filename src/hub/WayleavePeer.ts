/** What a hub says to a runner that speaks `wayleave.1`: frames over the session's numbered link, everything else at once. */
import { Effect } from "effect"
import { Link } from "../protocol/Link.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import type { AbortCode, RequestFrame } from "../tunnel/Frame.ts"
import type { Turn } from "../tunnel/Turn.ts"
import type { IndexedFrame, Peer } from "./Session.ts"

const encode = (received: number, frames: ReadonlyArray<Wayleave1.DownFrame>) =>
  Wayleave1.toRunner.encode({ _tag: "Frames", received, frames })
const encodeAck = (received: number) => Wayleave1.toRunner.encode({ _tag: "Ack", received })

/** The peer of one `wayleave.1` session. */
export class WayleavePeer implements Peer {
  readonly dialect = "wayleave.1"
  readonly goesOnUntold = false
  readonly ended = Effect.void
  // What a runner said was passed on as it came: nothing waits here.
  readonly drained = Effect.void
  readonly link: Link<RequestFrame>

  constructor(turn: Turn, onUnencodable: (frame: Wayleave1.DownFrame) => void) {
    this.link = new Link<RequestFrame>({ encode, encodeAck, turn, onUnencodable })
  }

  send(frame: Wayleave1.DownFrame): boolean {
    return this.link.send(frame)
  }

  withdraw(route: RouteKey): ReadonlyArray<Wayleave1.DownFrame> {
    return this.link.withdraw(route)
  }

  reset(route: RouteKey, code: AbortCode): void {
    this.link.sendNow(Wayleave1.toRunner.encode({ _tag: "Reset", route, code }))
  }

  goAway(reason: string): void {
    this.link.sendNow(Wayleave1.toRunner.encode({ _tag: "GoAway", reason }))
  }

  flushed(): boolean {
    return this.link.queuedBytes === 0
  }

  detach(socket: MessageSocket): void {
    this.link.detach(socket)
  }

  farewell(_route: RouteKey, unsent: boolean): IndexedFrame {
    return {
      index: 0,
      frame: unsent
        ? { _tag: "ResponseAbort", code: "no_runner", message: "the runner left before it saw the request" }
        : { _tag: "ResponseAbort", code: "session_lost", message: "the runner went away and did not come back" }
    }
  }

  finished(): void {}
}
