/** The hub role: takes runners in, owns their sessions and routes. What an Effect app needs to run one of its own. */
export * as Authenticator from "../auth/Authenticator.ts"
export * as MessageBus from "../bus/MessageBus.ts"
export * as RouteStore from "../route/RouteStore.ts"
export { Hub, type HubOptions, layer, type RunnerPeer } from "./Hub.ts"
