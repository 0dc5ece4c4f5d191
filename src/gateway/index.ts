/** The gateway as others use it: its layer, and the two interfaces through which any platform brings it visitors. */

/** The service and its layer. */
export * as Gateway from "./Gateway.ts"
/** Every error a visitor can meet. */
export * as GatewayError from "./GatewayError.ts"
/** What a gateway counts. */
export * as GatewayMetrics from "./GatewayMetrics.ts"
/** How a watcher sees streams. */
export * as StreamObserver from "./StreamObserver.ts"
/** Exchange and upgrade, for whoever brings another platform. */
export type * as Visitor from "./Visitor.ts"
