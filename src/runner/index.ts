/**
 * What a program that is reached through a tunnel uses: the runner, an Effect `HttpServer` over it, a forward to a local port, and the
 * contract to fulfil with something else.
 */
export * as HubConnection from "./HubConnection.ts"
export * as LocalForward from "./LocalForward.ts"
export type { Target } from "./LocalTarget.ts"
export * as Reconnect from "./Reconnect.ts"
export { RequestStream } from "./RequestStream.ts"
export { ResponseWriter } from "./ResponseWriter.ts"
export * as Runner from "./Runner.ts"
export { AppFailure, RunnerApp } from "./RunnerApp.ts"
export { type ObservedEnd, type ObservedRequest, type Observer, RunnerObserver } from "./RunnerObserver.ts"
export { StreamAborted, type StreamEnd } from "./StreamCore.ts"
export * as TunnelHttpServer from "./TunnelHttpServer.ts"
export { type Fragment, WebSocketClosed, type WebSocketMessage, WebSocketStream } from "./WebSocketStream.ts"
