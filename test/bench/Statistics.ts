/** Figures out of many figures. */

/** The middle one; of an even count the mean of the middle two. */
export const median = (numbers: ReadonlyArray<number>): number => {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** The smallest figure that `percent` of them do not exceed. */
export const percentile = (numbers: ReadonlyArray<number>, percent: number): number => {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? Number.NaN
}

/** The median of each round's own ratio: what the machine did in that round hit both. Rounds that lack one of the two do not count. */
export const medianRatio = (
  ones: ReadonlyArray<number | undefined>,
  others: ReadonlyArray<number | undefined>
): number | undefined => {
  const ratios: Array<number> = []
  for (const [round, one] of ones.entries()) {
    const other = others[round]
    if (one !== undefined && other !== undefined && other !== 0) ratios.push(one / other)
  }
  return ratios.length === 0 ? undefined : median(ratios)
}
