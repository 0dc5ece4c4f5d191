/**
 * The eight situations in which runners of good faith send on routes that look closed: legitimate traffic that made a check like ours unusable
 * elsewhere. `test/hub/ClientTraffic.test.ts` and `test/hub/rivet/RivetClientTraffic.test.ts` have each alone; `OddRunner.ts` and `RivetApp.ts` play
 * them here, where everything else goes wrong as well.
 */

/** Each by its number, as the tests of single hubs have it. */
export const situations = {
  1: "it goes on with sockets that it had before a reconnect",
  2: "it closes sockets that it could not restore",
  3: "handlers of restored sockets send",
  4: "it sends on a socket that nobody ever mentioned to it",
  5: "it echoes the visitor's close",
  6: "it ends a stream twice",
  7: "its messages and acknowledgements cross the visitor's close, or follow its own",
  8: "what it ran before speaks after it was started anew"
} as const

/** One of the eight. */
export type Situation = keyof typeof situations

/** Whose runner it came about with. */
export const dialects = ["wayleave.1", "rivet"] as const
type Dialect = (typeof dialects)[number]

/** How often each came about, by its name. */
export type Situations = Map<string, number>

const nameOf = (dialect: Dialect, situation: Situation) => `${dialect} ${situation}: ${situations[situation]}`

/** All names, for whoever asks whether each came about. */
export const situationNames: ReadonlyArray<string> = dialects.flatMap((dialect) =>
  ([1, 2, 3, 4, 5, 6, 7, 8] as const).map((situation) => nameOf(dialect, situation))
)

/** It has just come about. */
export const seeSituation = (seen: Situations, dialect: Dialect, situation: Situation): void => {
  const name = nameOf(dialect, situation)
  seen.set(name, (seen.get(name) ?? 0) + 1)
}
