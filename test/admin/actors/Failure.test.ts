import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import { ActorError } from "../../../src/actor/ActorControl.ts"
import {
  type FailureCode,
  failure,
  failures,
  fromActorError,
  statuses,
  statusOf
} from "../../../src/admin/actors/Failure.ts"

const codes = Object.keys(statuses) as ReadonlyArray<FailureCode>

it("docs/guide/actors-api.md lists every failure with its status and when it comes", () => {
  const page = readFileSync(fileURLToPath(new URL("../../../docs/guide/actors-api.md", import.meta.url)), "utf8")
  const rows = [...page.matchAll(/^\| `([a-z_]+\.[a-z_]+)` \| (\d{3}) \| (.{5,}) \|$/gm)]
  assert.deepStrictEqual(
    rows.map(([, code, status]) => [code, Number(status)]),
    Object.entries(statuses)
  )
})

it("a failure is of one schema, that of its status", () => {
  for (const code of codes) {
    const said = failure(code, "why", { fact: 1 })
    assert.strictEqual(`${said.group}.${said.code}`, code)
    assert.strictEqual(statusOf(said), statuses[code])
    assert.strictEqual(failures.filter((schema) => Schema.is(schema)(said)).length, 1, code)
  }
  assert.strictEqual(statusOf({ group: "no", code: "such" }), 500)
})

it("whatever the control plane refuses has a status", () => {
  for (const reason of ActorError.fields.reason.literals) {
    const said = fromActorError(new ActorError({ reason, message: "why" }))
    assert.deepStrictEqual(said, failure(reason, "why"))
    assert.isBelow(statusOf(said), 504)
    assert.notStrictEqual(statusOf(said), 500)
  }
})
