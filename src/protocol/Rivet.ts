/**
 * Rivet's runner protocol by the number a runner states when it connects. The version is fixed for the connection, both ways.
 *
 * Next: `rivet/Exchange.ts`, what a version carries; `RivetMk1.ts` and `RivetMk2.ts`, how; `rivet/V1.ts` … `V7.ts`, the bytes.
 */
import * as Mk1 from "./RivetMk1.ts"
import * as Mk2 from "./RivetMk2.ts"
import type { RivetVersion } from "./rivet/Exchange.ts"

export type { Down, RivetVersion, Up, WholeRequestFrame, WholeResponseFrame } from "./rivet/Exchange.ts"

/** All seven versions, the oldest first. */
export const versions: ReadonlyArray<RivetVersion> = [Mk1.v1, Mk1.v2, Mk1.v3, Mk2.v4, Mk2.v5, Mk2.v6, Mk2.v7]

/** The version of that number, or undefined where there is none. */
export const versionOf = (number: number): RivetVersion | undefined =>
  versions.find(({ version }) => version === number)
