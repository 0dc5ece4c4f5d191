/** Runs the contract of route stores, which `wayleave/testing` exports, as tests of this repository. */
import { it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import type { RouteStore } from "../../src/route/RouteStore.ts"
import * as Contract from "../../src/testing/RouteStoreContract.ts"

/** The suite; `bounds` are what the layer was made with. */
export const routeStoreContract = (
  name: string,
  layer: Layer.Layer<RouteStore>,
  bounds: Contract.RouteStoreBounds
): void => {
  for (const { check, title } of Contract.routeStoreContract(bounds)) {
    it.effect(`${name}: ${title}`, () => Effect.provide(check, layer))
  }
}
