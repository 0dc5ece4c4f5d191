import type { Schema } from "effect"
import type { Codec } from "../../src/protocol/Bare.ts"
import * as V1 from "../../src/protocol/rivet/V1.ts"
import * as V2 from "../../src/protocol/rivet/V2.ts"
import * as V3 from "../../src/protocol/rivet/V3.ts"
import * as V4 from "../../src/protocol/rivet/V4.ts"
import * as V5 from "../../src/protocol/rivet/V5.ts"
import * as V6 from "../../src/protocol/rivet/V6.ts"
import * as V7 from "../../src/protocol/rivet/V7.ts"

/** One top-level type of one version: its schema and the codec compiled from it. */
export interface TopLevel {
  readonly version: number
  readonly type: string
  readonly schema: Schema.Top
  readonly codec: Codec<unknown>
}

/** Every top-level type of every version. */
export const topLevels: ReadonlyArray<TopLevel> = [V1, V2, V3, V4, V5, V6, V7].flatMap((module, i) =>
  Object.entries(module.codecs).map(([type, codec]) => {
    const schema = (module as unknown as Readonly<Record<string, Schema.Top | undefined>>)[type]
    if (schema === undefined) throw new Error(`V${i + 1} has a codec but no schema called ${type}`)
    return { version: i + 1, type, schema, codec: codec as unknown as Codec<unknown> }
  })
)

/** The codec of a type in a version. */
export const codecOf = (version: number, type: string): Codec<unknown> => {
  const found = topLevels.find((topLevel) => topLevel.version === version && topLevel.type === type)
  if (found === undefined) throw new Error(`version ${version} has no type ${type}`)
  return found.codec
}
