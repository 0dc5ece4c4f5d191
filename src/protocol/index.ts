/** What runner and hub say to each other: the frames, the codec derived from them, and the dialects on the wire. */
export * as Envelope from "../tunnel/Envelope.ts"
export * as Frame from "../tunnel/Frame.ts"
export * as Limits from "../tunnel/Limits.ts"
export * as Wire from "../tunnel/Wire.ts"
export * as Bare from "./Bare.ts"
/** Rivet's runner protocol, all seven versions, to the model and back. */
export * as Rivet from "./Rivet.ts"
/** Our own. */
export * as Wayleave1 from "./Wayleave1.ts"
