/**
 * Says no to a Node that cannot run Wayleave, in words, before anything is loaded that would fail with a riddle.
 *
 * Imports nothing and uses no syntax newer than Node 14: this is the one file that an old Node must be able to read.
 */

/** The oldest Node that the Effect platform packages support. The same number stands in `engines` of package.json. */
export const oldestNode = "22.19.0"

const numbers = (version: string): ReadonlyArray<number> => version.split(".").map((part) => Number.parseInt(part, 10))

/** The message for a Node too old; undefined where the version will do. */
export const refusalOf = (version: string): string | undefined => {
  const has = numbers(version)
  const needs = numbers(oldestNode)
  for (let i = 0; i < needs.length; i++) {
    const difference = (has[i] || 0) - (needs[i] as number)
    if (difference > 0) return undefined
    if (difference < 0) {
      return `wayleave needs Node ${oldestNode} or newer, and this is Node ${version}. A newer one: https://nodejs.org\n`
    }
  }
  return undefined
}
