/**
 * Actor messages of the model ↔ what several of Rivet's versions say in the same words: configurations, states, the key-value store. What a
 * version wraps around them is in `RivetMk1.ts` and `RivetMk2.ts`.
 */
import type * as ActorMessage from "../../actor/ActorMessage.ts"
import { absurd } from "../../tunnel/Frame.ts"
import type * as Rivet from "./Actor.ts"
import type * as Kv from "./Kv.ts"
import { routeBytes, routeOf } from "./TunnelFrame.ts"
import type * as V1 from "./V1.ts"
import type * as V4 from "./V4.ts"
import type * as V5 from "./V5.ts"
import type * as V7 from "./V7.ts"

/** An actor's configuration as the model has it. */
export const liftConfig = (config: typeof Rivet.ActorConfig.Type): ActorMessage.ActorConfig => ({
  name: config.name,
  key: config.key,
  createdAtMs: config.createTs,
  input: config.input
})

/** An actor's configuration as Rivet has it. */
export const lowerConfig = (config: ActorMessage.ActorConfig): typeof Rivet.ActorConfig.Type => ({
  name: config.name,
  key: config.key,
  createTs: config.createdAtMs,
  input: config.input
})

type HibernatingRequests = (typeof V5.CommandStartActor.Type)["hibernatingRequests"]
type Hibernating = Extract<ActorMessage.Command, { readonly _tag: "StartActor" }>["hibernating"]

/** The routes of waiting WebSockets, as the model has them. */
export const liftHibernating = (requests: HibernatingRequests): Hibernating => requests.map(routeOf)

/** The routes of waiting WebSockets, as Rivet has them. */
export const lowerHibernating = (routes: Hibernating): HibernatingRequests => routes.map(routeBytes)

/** An event without its actor, as version 5 and later have it; earlier versions add actor and generation to the same fields. */
export const liftEvent = (event: typeof V5.Event.Type): ActorMessage.Event => {
  switch (event.tag) {
    case "EventActorIntent": {
      const { intent } = event.val
      switch (intent.tag) {
        case "ActorIntentSleep":
          return { _tag: "WantsSleep" }
        case "ActorIntentStop":
          return { _tag: "WantsStop" }
      }
      return absurd(intent)
    }
    case "EventActorStateUpdate": {
      const { state } = event.val
      switch (state.tag) {
        case "ActorStateRunning":
          return { _tag: "Running" }
        case "ActorStateStopped":
          return { _tag: "Stopped", failed: state.val.code === "Error", message: state.val.message }
      }
      return absurd(state)
    }
    case "EventActorSetAlarm":
      return { _tag: "SetAlarm", atMs: event.val.alarmTs }
  }
  return absurd(event)
}

/** The same the other way. */
export const lowerEvent = (event: ActorMessage.Event): typeof V5.Event.Type => {
  switch (event._tag) {
    case "WantsSleep":
      return { tag: "EventActorIntent", val: { intent: { tag: "ActorIntentSleep", val: null } } }
    case "WantsStop":
      return { tag: "EventActorIntent", val: { intent: { tag: "ActorIntentStop", val: null } } }
    case "Running":
      return { tag: "EventActorStateUpdate", val: { state: { tag: "ActorStateRunning", val: null } } }
    case "Stopped": {
      const code = event.failed ? "Error" : "Ok"
      const { message } = event
      return {
        tag: "EventActorStateUpdate",
        val: { state: { tag: "ActorStateStopped", val: { code, message } } }
      }
    }
    case "SetAlarm":
      return { tag: "EventActorSetAlarm", val: { alarmTs: event.atMs } }
  }
  return absurd(event)
}

/** An event of versions 1 to 4: the same, with the actor's id and generation inside. */
export const lowerOwnedEvent = ({ checkpoint, event }: ActorMessage.NumberedEvent): typeof V1.Event.Type => {
  const { actorId, generation } = checkpoint
  const lowered = lowerEvent(event)
  switch (lowered.tag) {
    case "EventActorIntent":
      return { tag: lowered.tag, val: { actorId, generation, intent: lowered.val.intent } }
    case "EventActorStateUpdate":
      return { tag: lowered.tag, val: { actorId, generation, state: lowered.val.state } }
    case "EventActorSetAlarm":
      return { tag: lowered.tag, val: { actorId, generation, alarmTs: lowered.val.alarmTs } }
  }
  return absurd(lowered)
}

const liftQuery = (query: typeof Kv.KvListQuery.Type): ActorMessage.KvQuery => {
  switch (query.tag) {
    case "KvListAllQuery":
      return { _tag: "All" }
    case "KvListRangeQuery":
      return { _tag: "Range", start: query.val.start, end: query.val.end, exclusive: query.val.exclusive }
    case "KvListPrefixQuery":
      return { _tag: "Prefix", key: query.val.key }
  }
  return absurd(query)
}

const lowerQuery = (query: ActorMessage.KvQuery): typeof Kv.KvListQuery.Type => {
  switch (query._tag) {
    case "All":
      return { tag: "KvListAllQuery", val: null }
    case "Range":
      return { tag: "KvListRangeQuery", val: { start: query.start, end: query.end, exclusive: query.exclusive } }
    case "Prefix":
      return { tag: "KvListPrefixQuery", val: { key: query.key } }
  }
  return absurd(query)
}

/** A request to a store; version 7's words include those of all others. */
export const liftKvRequest = (request: typeof V7.KvRequestData.Type): ActorMessage.KvRequest => {
  switch (request.tag) {
    case "KvGetRequest":
      return { _tag: "Get", keys: request.val.keys }
    case "KvListRequest": {
      const { query, reverse, limit } = request.val
      return { _tag: "List", query: liftQuery(query), reverse, limit }
    }
    case "KvPutRequest":
      return { _tag: "Put", keys: request.val.keys, values: request.val.values }
    case "KvDeleteRequest":
      return { _tag: "Delete", keys: request.val.keys }
    case "KvDeleteRangeRequest":
      return { _tag: "DeleteRange", start: request.val.start, end: request.val.end }
    case "KvDropRequest":
      return { _tag: "Drop" }
  }
  return absurd(request)
}

/** The same the other way, in version 7's words. */
export const lowerKvRequest = (request: ActorMessage.KvRequest): typeof V7.KvRequestData.Type => {
  switch (request._tag) {
    case "Get":
      return { tag: "KvGetRequest", val: { keys: request.keys } }
    case "List": {
      const { query, reverse, limit } = request
      return { tag: "KvListRequest", val: { query: lowerQuery(query), reverse, limit } }
    }
    case "Put":
      return { tag: "KvPutRequest", val: { keys: request.keys, values: request.values } }
    case "Delete":
      return { tag: "KvDeleteRequest", val: { keys: request.keys } }
    case "DeleteRange":
      return { tag: "KvDeleteRangeRequest", val: { start: request.start, end: request.end } }
    case "Drop":
      return { tag: "KvDropRequest", val: null }
  }
  return absurd(request)
}

/** The same in the words of versions 1 to 6, or null: they cannot delete a range. */
export const lowerEarlierKvRequest = (request: ActorMessage.KvRequest): typeof V1.KvRequestData.Type | null => {
  const lowered = lowerKvRequest(request)
  return lowered.tag === "KvDeleteRangeRequest" ? null : lowered
}

/** A store's answer as version 4 and later say it. */
export const liftKvResponse = (response: typeof V4.KvResponseData.Type): ActorMessage.KvResponse => {
  switch (response.tag) {
    case "KvErrorResponse":
      return { _tag: "Failed", message: response.val.message }
    case "KvGetResponse":
      return { _tag: "Got", ...liftEntries(response.val) }
    case "KvListResponse":
      return { _tag: "Listed", ...liftEntries(response.val) }
    case "KvPutResponse":
      return { _tag: "Stored" }
    case "KvDeleteResponse":
      return { _tag: "Deleted" }
    case "KvDropResponse":
      return { _tag: "Dropped" }
  }
  return absurd(response)
}

type LaterEntries = Extract<typeof V4.KvResponseData.Type, { readonly tag: "KvGetResponse" }>["val"]
type Entries = Omit<Extract<ActorMessage.KvResponse, { readonly _tag: "Got" }>, "_tag">

const liftEntries = ({ keys, values, metadata }: LaterEntries): Entries => ({
  keys,
  values,
  metadata: metadata.map(({ version, updateTs }) => ({ version, updatedAtMs: updateTs }))
})

const lowerEntries = ({ keys, values, metadata }: Entries): LaterEntries => ({
  keys,
  values,
  metadata: metadata.map(({ version, updatedAtMs }) => ({ version, updateTs: updatedAtMs }))
})

/** The same the other way. */
export const lowerKvResponse = (response: ActorMessage.KvResponse): typeof V4.KvResponseData.Type => {
  switch (response._tag) {
    case "Failed":
      return { tag: "KvErrorResponse", val: { message: response.message } }
    case "Got":
      return { tag: "KvGetResponse", val: lowerEntries(response) }
    case "Listed":
      return { tag: "KvListResponse", val: lowerEntries(response) }
    case "Stored":
      return { tag: "KvPutResponse", val: null }
    case "Deleted":
      return { tag: "KvDeleteResponse", val: null }
    case "Dropped":
      return { tag: "KvDropResponse", val: null }
  }
  return absurd(response)
}
