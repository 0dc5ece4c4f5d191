/** How long whoever lost something waits before the next try, a runner before it dials again say: exponential from `reconnectFirstMs`, capped at `reconnectMaxMs`, 20 % of jitter either way. For ever. */
import { Random } from "effect"
import { limits } from "../tunnel/Limits.ts"

/** A connection that stood this long was a good one: the next wait is the first again. */
export const lastedMs = limits.reconnectMaxMs

const jitter = 0.2

/** The wait before dial number `failures + 1`, where `chance` is between 0 and 1. */
export const waitMs = (failures: number, chance: number): number => {
  const doubled = limits.reconnectFirstMs * 2 ** Math.min(Math.max(failures - 1, 0), 30)
  return Math.min(doubled, limits.reconnectMaxMs) * (1 - jitter + 2 * jitter * chance)
}

/** The same with the chance drawn: many runners that lost one hub do not come back in one moment. */
export const nextWaitMs = (failures: number) =>
  Random.Random.useSync((random) => waitMs(failures, random.nextDoubleUnsafe()))
