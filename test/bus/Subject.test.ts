import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Subject from "../../src/bus/Subject.ts"

it("spells plain names as they are", () => {
  assert.strictEqual(Subject.ofName("default", "web-1"), "wayleave.default.name.web-1")
  assert.strictEqual(Subject.ofGateway("default", 255), "wayleave.default.gateway.000000ff")
})

it.prop(
  "keeps any name inside its one token, apart from every other name's",
  { a: Schema.String, b: Schema.String },
  ({ a, b }) => {
    const token = Subject.token(a)
    assert.match(token, /^[^.*>\s]+$/)
    assert.strictEqual(Subject.ofName("n", a).split(".").length, 4)
    assert.strictEqual(token === Subject.token(b), a.toWellFormed() === b.toWellFormed())
  }
)

it("keeps dots, wildcards, blanks and long names where they belong", () => {
  const names = [
    "a.b",
    "*",
    ">",
    "a b",
    "",
    "ä",
    "=61",
    "61",
    "A",
    "a",
    "\u0000",
    "x".repeat(1024),
    "wayleave.default.hub.1"
  ]
  const tokens = names.map(Subject.token)
  assert.strictEqual(new Set(tokens).size, names.length)
  for (const token of tokens) assert.match(token, /^[a-z0-9_=-]+$/)
})

it("does not show a session's id, which is a secret", () => {
  const [one, other] = ["a".repeat(32), `${"a".repeat(31)}b`].map((id) => Subject.ofSession("default", id)) as [
    string,
    string
  ]
  assert.match(one, /^wayleave\.default\.session\.[0-9a-f]{32}$/)
  assert.notStrictEqual(one, other)
  assert.notInclude(one, "a".repeat(32))
})

it.prop(
  "no two kinds of subject are one, and none of one namespace is another's, whatever they are called",
  { namespace: Schema.String, other: Schema.String, name: Schema.String },
  ({ name, namespace, other }) => {
    const all = (of: string) => [
      Subject.ofName(of, name),
      Subject.ofAway(of, name),
      Subject.ofHub(of, name),
      Subject.ofSession(of, name),
      Subject.ofGateway(of, 1),
      Subject.ofActors(of),
      Subject.ofActorClaim(of)
    ]
    const here = all(namespace)
    assert.strictEqual(new Set(here).size, here.length)
    for (const subject of here) assert.match(subject, /^wayleave(?:\.[a-z0-9_=-]+)+$/)
    const same = namespace.toWellFormed() === other.toWellFormed()
    for (const subject of all(other)) assert.strictEqual(here.includes(subject), same)
  }
)
