/** All rows, in the order of the tables. */
import { growthRows } from "./GrowthRows.ts"
import { memoryRows } from "./MemoryRows.ts"
import type { Row } from "./Row.ts"
import { speedRows } from "./SpeedRows.ts"

/** How fast, how much memory, and whether it stays so. */
export const rows: ReadonlyArray<Row> = [...speedRows, ...memoryRows, ...growthRows]
