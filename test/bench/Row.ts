/** What a row of the tables is. */
import type { Measured, Subject } from "./Measurement.ts"
import type { Way } from "./Ways.ts"

/** A row: what is measured, and how its figure is read. */
export interface Row {
  readonly name: string
  readonly unit: string
  /** `rate`: the more the better, shown as a ratio to direct. `amount`: the less the better, shown as it is. */
  readonly kind: "rate" | "amount"
  /** What processor time is given for one of. */
  readonly operation?: string
  /** Measured on processes that have done nothing before: memory that was once bought is not bought again. */
  readonly fresh?: boolean
  /** Which ways it says something of; all where absent. */
  readonly on?: (way: Way) => boolean
  /** Once through, after a first time that does not count. */
  readonly measure: (subject: Subject) => Promise<Measured>
}
