/**
 * A small world around a control plane: runners that behave as the published client does, connections that lose what is under way, processes that
 * end in every way, and a control plane that is killed and begun again on its store. A seed decides everything; what must hold is checked at each step.
 */
import { assert } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Random, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as ActorControl from "../../src/actor/ActorControl.ts"
import type { Event, NumberedCommand, NumberedEvent } from "../../src/actor/ActorMessage.ts"
import { ActorStore, ActorStoreError } from "../../src/actor/ActorStore.ts"
import type { SessionId } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { atOnce, request, settle } from "./ControlHarness.ts"

type Control = ActorControl.ActorControl["Service"]

/** An actor as a runner has it: its history holds what was not acknowledged. */
interface Hosted {
  readonly generation: number
  index: bigint
  history: Array<NumberedEvent>
  /** When its stop callback is done; undefined while nobody stops it. */
  stoppedAt: number | undefined
}

/** One runner process, as the published client behaves (version 7, or an older one). */
export class Client {
  readonly key: string
  readonly protocolVersion: number
  readonly actors = new Map<string, Hosted>()
  runnerId: SessionId | undefined
  /** The open connection: what is under way over it is lost with it. */
  link:
    | {
        readonly scope: Scope.Closeable
        readonly session: SessionId
        down: Array<NumberedCommand>
        up: Array<NumberedEvent>
        probes: Array<string>
        readonly stops: Set<string>
        readonly openedAt: number
        listedAt: number
      }
    | undefined
  closedAt = 0
  /** Shutting down since. */
  leavingAt: number | undefined
  evicted = false

  constructor(key: string, protocolVersion: number) {
    this.key = key
    this.protocolVersion = protocolVersion
  }

  get introduction(): ActorControl.RunnerIntroduction {
    const { key, protocolVersion } = this
    return { name: "pool", key, version: 1, totalSlots: 6, protocolVersion, actorNames: new Map(), metadata: null }
  }

  /** Notes an event, and sends it if that is possible now. */
  emit(actorId: string, hosted: Hosted, event: Event): void {
    const numbered = { checkpoint: { actorId, generation: hosted.generation, index: ++hosted.index }, event }
    hosted.history.push(numbered)
    this.link?.up.push(numbered)
  }

  begin({ checkpoint }: NumberedCommand): void {
    const { actorId, generation } = checkpoint
    const hosted: Hosted = { generation, index: -1n, history: [], stoppedAt: undefined }
    this.actors.set(actorId, hosted)
    this.emit(actorId, hosted, { _tag: "Running" })
  }

  /** The actor is no more here, and with it goes what it had not told. */
  end(actorId: string, hosted: Hosted, ok: boolean): void {
    this.emit(actorId, hosted, { _tag: "Stopped", failed: this.protocolVersion >= 7 && !ok, message: null })
    this.actors.delete(actorId)
  }
}

/** What may go wrong, and how often, in thousandths of a step. */
export interface Weather {
  readonly breaks: number
  readonly dies: number
  readonly leaves: number
  readonly evicts: number
  readonly kills: number
  readonly acts: number
  readonly orders: number
  readonly visits: number
}

export const calm: Weather = { breaks: 0, dies: 0, leaves: 0, evicts: 0, kills: 0, acts: 0, orders: 0, visits: 0 }
export const storm: Weather = {
  breaks: 60,
  dies: 10,
  leaves: 8,
  evicts: 5,
  kills: 8,
  acts: 100,
  orders: 60,
  visits: 100
}

const actorsMax = 12

/** The world of one run. */
export class World {
  readonly clients: Array<Client> = []
  readonly store: ActorStore["Service"]
  /** Whether runners answer probes: a hub may have no way to ask. */
  readonly probing: boolean
  control!: Control
  now = 0
  private scope!: Scope.Closeable
  private dead = { killed: false }
  private keys = 0
  private readonly ids: Array<string> = []
  /** The last generation any runner was ever told to start. */
  private readonly startedUpTo = new Map<string, number>()
  private readonly destroyed = new Set<string>()
  private readonly violations: Array<string> = []
  private visits: Array<Fiber.Fiber<unknown, unknown>> = []
  readonly log: Array<string> = []

  constructor(store: ActorStore["Service"], probing: boolean) {
    this.store = store
    this.probing = probing
  }

  private note(line: string): void {
    this.log.push(`${(this.now / 1000).toFixed(2)} ${line}`)
  }

  private chance(thousandths: number): Effect.Effect<boolean> {
    return Effect.map(Random.nextIntBetween(0, 999), (drawn) => drawn < thousandths)
  }

  private some<A>(all: ReadonlyArray<A>): Effect.Effect<A | undefined> {
    return all.length === 0
      ? Effect.succeed(undefined)
      : Effect.map(Random.nextIntBetween(0, all.length - 1), (at) => all[at])
  }

  /** Begins the control plane on what the store holds. */
  readonly begin = Effect.gen({ self: this }, function* () {
    const life = { killed: false }
    this.dead = life
    const { store } = this
    const mortal = ActorStore.of({
      load: store.load,
      gatherMs: 0,
      write: (changes) =>
        Effect.suspend(() =>
          life.killed ? Effect.fail(new ActorStoreError({ cause: "killed" })) : store.write(changes)
        )
    })
    const scope = yield* Scope.make()
    this.scope = scope
    const layer = ActorControl.layer().pipe(Layer.provide(Layer.succeed(ActorStore, mortal)), Layer.provide(atOnce))
    this.control = Context.get(yield* Layer.buildWithScope(layer, scope), ActorControl.ActorControl)
    yield* settle
  })

  /** Kills it in whatever it does, and begins it again. Every connection is gone. */
  readonly restart = Effect.gen({ self: this }, function* () {
    this.note("the control plane is killed")
    this.dead.killed = true
    yield* Effect.forkChild(Scope.close(this.scope, Exit.void))
    for (const client of this.clients) this.cut(client)
    // Who waited there was told by the end of its connection.
    for (const visit of this.visits.splice(0)) yield* Fiber.interrupt(visit)
    yield* settle
    const downMs = yield* Random.nextIntBetween(0, 3_000)
    yield* TestClock.adjust(downMs)
    this.now += downMs
    yield* this.begin
  })

  readonly addClient = Effect.gen({ self: this }, function* () {
    const version = yield* Random.nextIntBetween(5, 7)
    const client = new Client(`key ${this.keys++}`, version)
    this.clients.push(client)
    return client
  })

  /** The connection is gone, for the runner. */
  private cut(client: Client): void {
    if (client.link === undefined) return
    client.link = undefined
    client.closedAt = this.now
  }

  private readonly disconnect = (client: Client) =>
    Effect.suspend(() => {
      const { link } = client
      this.cut(client)
      return link === undefined ? Effect.void : Scope.close(link.scope, Exit.void)
    })

  private readonly connect = (client: Client) =>
    Effect.gen({ self: this }, function* () {
      const { control } = this
      const scope = yield* Scope.make()
      const session = yield* control.identify(client.introduction)
      this.note(`${client.key} connects as ${session.slice(0, 4)}`)
      const link = {
        scope,
        session,
        down: [] as Array<NumberedCommand>,
        up: [] as Array<NumberedEvent>,
        probes: [] as Array<string>,
        stops: new Set<string>(),
        openedAt: this.now,
        listedAt: this.now
      }
      client.link = link
      if (client.runnerId !== session) {
        client.runnerId = session
        for (const [actorId, hosted] of [...client.actors]) client.end(actorId, hosted, false)
      }
      for (const { history } of client.actors.values()) link.up.push(...history)
      const port: ActorControl.RunnerPort = {
        command: (commands) => {
          for (const command of commands) {
            const { actorId, generation } = command.checkpoint
            this.note(`${client.key} is sent ${command.command._tag} ${actorId.slice(0, 6)} ${generation}`)
            if (command.command._tag === "StartActor") this.checkStart(actorId, generation)
            else if (link.stops.has(`${actorId} ${generation}`)) this.violations.push(`${actorId} is stopped twice`)
            else link.stops.add(`${actorId} ${generation}`)
          }
          link.down.push(...commands)
        },
        ended: () => {},
        ...(this.probing ? { probe: ({ actorId }: { actorId: string }) => void link.probes.push(actorId) } : {})
      }
      yield* control.attach(session, client.introduction, port, []).pipe(Scope.provide(scope))
    })

  /** No generation is ordered twice, none is smaller than an earlier one, and nothing of what was destroyed is. */
  private checkStart(actorId: string, generation: number): void {
    // Thrown at the control plane it would be the control plane's trouble, and not this test's.
    if (generation <= (this.startedUpTo.get(actorId) ?? -1)) this.violations.push(`${actorId} ${generation} again`)
    if (this.destroyed.has(actorId)) this.violations.push(`${actorId} ${generation}, and it was destroyed`)
    this.startedUpTo.set(actorId, generation)
  }

  /**
   * Where a start arrives, no connected runner has the actor elsewhere without having been told to stop it, and none that is alone and does not know
   * yet that it is lost.
   */
  private checkAlone(host: Client, actorId: string, generation: number): void {
    for (const client of this.clients) {
      const hosted = client.actors.get(actorId)
      if (client === host || hosted === undefined) continue
      if (client.link === undefined) {
        const alone = this.now - client.closedAt >= limits.runnerLostMs
        assert.isTrue(
          alone,
          `${actorId} ${generation} begins at ${host.key} while ${client.key} has ${hosted.generation}`
        )
        continue
      }
      const told =
        hosted.stoppedAt !== undefined ||
        client.link.down.some(
          ({ checkpoint, command }) =>
            command._tag === "StopActor" &&
            checkpoint.actorId === actorId &&
            checkpoint.generation === hosted.generation
        )
      assert.isTrue(told, `${actorId} ${generation} begins at ${host.key} while ${client.key} has ${hosted.generation}`)
    }
  }

  private readonly deliver = (client: Client) =>
    Effect.gen({ self: this }, function* () {
      const { link } = client
      if (link === undefined) return
      for (const command of link.down.splice(0, yield* Random.nextIntBetween(0, 6))) {
        const { actorId, generation } = command.checkpoint
        if (command.command._tag === "StartActor") {
          this.checkAlone(client, actorId, generation)
          client.begin(command)
        } else {
          const hosted = client.actors.get(actorId)
          if (hosted?.generation === generation) {
            hosted.stoppedAt ??= this.now + (yield* Random.nextIntBetween(0, 2_000))
          }
        }
      }
      for (const actorId of link.probes.splice(0)) {
        if (client.actors.has(actorId)) this.control.aliveUnsafe(link.session, actorId)
      }
      const events = link.up.splice(0, yield* Random.nextIntBetween(0, 8))
      if (events.length > 0) {
        for (const { checkpoint, event } of events) {
          this.note(`${client.key} says ${event._tag} ${checkpoint.actorId.slice(0, 6)} ${checkpoint.generation}`)
        }
        const acknowledged = yield* this.control.heard(link.session, events)
        // The acknowledgement may be lost as well.
        if (yield* this.chance(800)) {
          for (const { actorId, index } of acknowledged) {
            const hosted = client.actors.get(actorId)
            if (hosted !== undefined) {
              hosted.history = hosted.history.filter(({ checkpoint }) => checkpoint.index > index)
            }
          }
        }
      }
      if (this.now - link.listedAt >= 300_000) {
        link.listedAt = this.now
        yield* this.control.acknowledged(
          link.session,
          Array.from(client.actors, ([actorId, { generation }]) => ({ actorId, generation, index: 0n }))
        )
      }
    })

  private readonly live = (client: Client) =>
    Effect.gen({ self: this }, function* () {
      for (const [actorId, hosted] of [...client.actors]) {
        if (hosted.stoppedAt !== undefined && hosted.stoppedAt <= this.now) {
          client.end(actorId, hosted, client.leavingAt !== undefined)
        }
      }
      const alone = client.link === undefined && this.now - client.closedAt >= limits.runnerLostMs
      if (alone) for (const actorId of [...client.actors.keys()]) client.actors.delete(actorId)
      if (client.leavingAt !== undefined) {
        const done = client.actors.size === 0 || client.link === undefined || this.now - client.leavingAt >= 120_000
        if (!done) return
        const { link } = client
        yield* this.disconnect(client)
        if (link !== undefined) yield* this.control.lost(link.session)
        this.clients.splice(this.clients.indexOf(client), 1)
        yield* this.addClient
        return
      }
      if (client.evicted) {
        if (client.actors.size > 0) return
        this.clients.splice(this.clients.indexOf(client), 1)
        yield* this.addClient
        return
      }
      if (client.link === undefined && (yield* this.chance(250))) yield* this.connect(client)
    })

  /** What its apps do. */
  private readonly act = (client: Client) =>
    Effect.gen({ self: this }, function* () {
      const one = yield* this.some([...client.actors])
      if (one === undefined) return
      const [actorId, hosted] = one
      if (hosted.stoppedAt !== undefined) return
      const deed = yield* Random.nextIntBetween(0, 9)
      if (deed < 4) client.emit(actorId, hosted, { _tag: "WantsSleep" })
      else if (deed < 7) {
        const atMs = (yield* this.chance(200))
          ? null
          : BigInt(this.now + (yield* Random.nextIntBetween(-1_000, 60_000)))
        client.emit(actorId, hosted, { _tag: "SetAlarm", atMs })
      } else if (deed < 9) client.end(actorId, hosted, false)
      else client.emit(actorId, hosted, { _tag: "WantsStop" })
    })

  private readonly fault = (client: Client, weather: Weather) =>
    Effect.gen({ self: this }, function* () {
      if (client.link !== undefined && (yield* this.chance(weather.breaks))) {
        this.note(`${client.key} loses its connection`)
        yield* this.disconnect(client)
      }
      if (yield* this.chance(weather.dies)) {
        this.note(`${client.key} dies`)
        yield* this.disconnect(client)
        client.actors.clear()
        client.runnerId = undefined
        // Half of the time the next process has the same key.
        if (yield* this.chance(500)) {
          this.clients.splice(this.clients.indexOf(client), 1)
          yield* this.addClient
        }
        return
      }
      if (client.link === undefined || client.leavingAt !== undefined || client.evicted) return
      if (yield* this.chance(weather.leaves)) {
        this.note(`${client.key} leaves`)
        client.leavingAt = this.now
        yield* this.control.draining(client.link.session)
      } else if (yield* this.chance(weather.evicts)) {
        this.note(`${client.key} is evicted`)
        client.evicted = true
        yield* this.control.lost(client.link.session)
        yield* this.disconnect(client)
      }
    })

  private readonly order = Effect.gen({ self: this }, function* () {
    const { control } = this
    const deed = yield* Random.nextIntBetween(0, 9)
    const living = this.ids.filter((id) => !this.destroyed.has(id))
    if (deed < 5 && living.length < actorsMax) {
      const crashPolicy = (yield* this.some(["restart", "restart", "sleep", "destroy"] as const)) ?? "restart"
      const { actorId } = yield* control.create(request({ crashPolicy }))
      this.note(`${actorId.slice(0, 6)} is created, ${crashPolicy}`)
      this.ids.push(actorId)
      return
    }
    const actorId = yield* this.some(living)
    if (actorId === undefined) return
    const ordered = deed < 7 ? control.reschedule : deed < 9 ? control.sleep : control.destroy
    this.note(`${actorId.slice(0, 6)} is ${deed < 7 ? "moved" : deed < 9 ? "sent to sleep" : "destroyed"}`)
    yield* Effect.ignore(ordered(actorId))
  })

  private readonly visit = Effect.gen({ self: this }, function* () {
    const actorId = yield* this.some(this.ids)
    if (actorId === undefined) return
    this.visits.push(
      yield* Effect.forkChild(Effect.exit(this.control.place(actorId, { wait: yield* this.chance(800) })))
    )
  })

  /** Whatever the control plane shows has to agree with itself. */
  private readonly check = Effect.gen({ self: this }, function* () {
    assert.deepStrictEqual(this.violations, [])
    for (const view of yield* this.control.list({ limit: 1_000, includeDestroyed: true })) {
      if (this.destroyed.has(view.actorId)) assert.isNotNull(view.destroyedAtMs, `${view.actorId} came back`)
      else if (view.destroyedAtMs !== null) this.destroyed.add(view.actorId)
    }
    const sessions = new Map<SessionId, number>()
    for (const runner of yield* this.control.runners) {
      let hosted = 0
      for (const id of this.ids) if (this.control.hostsUnsafe(runner.session, id) === true) hosted++
      sessions.set(runner.session, hosted)
      assert.strictEqual(
        runner.remainingSlots,
        Math.max(0, runner.totalSlots - hosted),
        "slots are those of actors hosted"
      )
      assert.isAtMost(hosted, runner.totalSlots)
    }
    for (const id of this.ids) {
      const hosts = [...sessions.keys()].filter((session) => this.control.generationUnsafe(session, id) !== undefined)
      assert.isAtMost(hosts.length, 1, "one live generation at most")
    }
  })

  /** One step of the world, so many milliseconds long. */
  readonly step = (weather: Weather, ms: number) =>
    Effect.gen({ self: this }, function* () {
      if (yield* this.chance(weather.kills)) yield* this.restart
      if (yield* this.chance(weather.orders)) yield* this.order
      if (yield* this.chance(weather.visits)) yield* this.visit
      for (const client of [...this.clients]) {
        yield* this.fault(client, weather)
        if (!this.clients.includes(client)) continue
        yield* this.live(client)
        if (yield* this.chance(weather.acts)) yield* this.act(client)
        yield* this.deliver(client)
      }
      yield* settle
      yield* this.check
      yield* TestClock.adjust(ms)
      this.now += ms
      yield* settle
    })

  /** After quiet everybody wanted is where it should be: visited, each living actor runs at exactly one runner, and nothing else runs. */
  readonly settled = Effect.gen({ self: this }, function* () {
    for (const visit of this.visits) assert.isDefined(visit.pollUnsafe(), "no visit waits for ever")
    const living = (yield* this.control.list({ limit: 1_000 })).map(({ actorId }) => actorId)
    const arrivals = new Map<string, Fiber.Fiber<ActorControl.Placement, ActorControl.ActorError>>()
    for (const actorId of living) {
      arrivals.set(actorId, yield* Effect.forkChild(this.control.place(actorId, { wait: true })))
    }
    for (let waited = 0; waited < limits.actorReadyMs; waited += 100) yield* this.step(calm, 100)
    for (const [actorId, arrival] of arrivals) {
      const exit = arrival.pollUnsafe()
      assert.isTrue(exit !== undefined && Exit.isSuccess(exit), `${actorId} is served: ${String(exit)}`)
    }
    // Whoever is stopped meanwhile needs a moment.
    for (let waited = 0; waited < 10_000; waited += 100) yield* this.step(calm, 100)
    for (const actorId of this.ids) {
      const hosts = this.clients.filter(({ actors }) => actors.has(actorId))
      if (!living.includes(actorId)) {
        assert.deepStrictEqual(hosts, [], `${actorId} was destroyed and runs`)
        continue
      }
      assert.strictEqual(hosts.length, 1, `${actorId} runs at ${hosts.length}`)
      const host = hosts[0] as Client
      const generation = this.control.generationUnsafe(host.runnerId as SessionId, actorId)
      assert.strictEqual(generation, host.actors.get(actorId)?.generation, `${actorId} is who it should be`)
    }
  })
}
