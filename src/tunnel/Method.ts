/** What a method promises of a request. */

const safe = new Set(["GET", "HEAD", "OPTIONS"])

/**
 * Whether a request of this method may be sent a second time where nobody knows whether the first arrived: it asks for nothing to be changed
 * (RFC 9110, 9.2.1 and 9.2.2). Of the other idempotent methods an app may still think otherwise.
 */
export const isSafe = (method: string): boolean => safe.has(method)
