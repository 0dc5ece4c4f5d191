/** Bytes fit to be kept for long: a view of a few would keep alive all that was read with them, so it is copied out. */
export const compactBytes = (bytes: Uint8Array): Uint8Array =>
  bytes.byteLength * 2 >= bytes.buffer.byteLength ? bytes : new Uint8Array(bytes)
