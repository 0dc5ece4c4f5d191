/**
 * Compiles an annotated schema (`tunnel/Wire.ts`) into two functions, one that writes a value and one that reads it.
 *
 * The functions are generated as source text, one per struct, union and map: property names become constants of the machine code, which is
 * what makes a derived codec as fast as a hand-written one. Compiled with `traced`, the same schema yields slower functions that keep track
 * of the field they are at; `Bare.ts` runs those only over what the fast ones have refused, to say where.
 */
import { SchemaAST as AST, type Schema } from "effect"
import type { WireForm } from "../tunnel/Wire.ts"
import type { Reader } from "./BareReader.ts"
import type { Writer } from "./BareWriter.ts"

/** What a schema compiles to. `path` is where a traced run is, or was when it was refused. */
export interface Program {
  readonly write: (writer: Writer, value: unknown) => void
  readonly read: (reader: Reader) => unknown
  readonly path: Array<string>
  /** The shape of the bytes in words: two schemas whose layouts are equal understand each other. */
  readonly layout: string
}

/** How one node is written and read, as source text. `bytesMin` is the least it takes on the wire. */
interface Form {
  bytesMin: number
  readonly layout: string
  readonly write: (value: string) => string
  readonly read: string
}

const lookup = <A>(ast: AST.AST, key: string): A | undefined =>
  AST.resolveAt<A>(key)(ast) ??
  (ast.annotations?.[key] as A | undefined) ??
  ast.checks?.map((check) => check.annotations?.[key] as A | undefined).find((found) => found !== undefined)

const unsupported = (ast: AST.AST, why: string): never => {
  throw new Error(`no BARE form for ${ast._tag}: ${why}`)
}

const primitives: Readonly<Record<string, number>> = {
  u8: 1,
  u16: 2,
  u32: 4,
  u64: 8,
  i64: 8,
  uint: 1,
  bool: 1,
  str: 1,
  data: 1
}

const primitive = (name: string): Form => ({
  bytesMin: primitives[name] as number,
  layout: name,
  write: (value) => `w.${name}(${value});`,
  read: `r.${name}()`
})

const literalOf = (ast: AST.AST): AST.LiteralValue | undefined => (AST.isLiteral(ast) ? ast.literal : undefined)

class Compiler {
  private readonly traced: boolean
  private readonly source: Array<string> = []
  private readonly constants: Array<unknown> = []
  private readonly forms = new Map<AST.AST, Form>()
  private names = 0

  constructor(traced: boolean) {
    this.traced = traced
  }

  program(ast: AST.AST): Program {
    const form = this.form(ast)
    const path: Array<string> = []
    const body = `"use strict";\n${this.source.join("\n")}
return { write: (w, v) => { ${form.write("v")} }, read: (r) => ${form.read} }`
    const compiled = new Function("K", "P", body)(this.constants, path) as Pick<Program, "write" | "read">
    return { ...compiled, path, layout: form.layout }
  }

  private constant(value: unknown): string {
    return `K[${this.constants.push(value) - 1}]`
  }

  private name(prefix: string): string {
    return `${prefix}${this.names++}`
  }

  /** Wraps a step so that a traced run knows where it is. `step` is source for a string. */
  private at(step: string, statement: string): string {
    return this.traced ? `P.push(${step});${statement}P.pop();` : statement
  }

  private form(ast: AST.AST): Form {
    const known = this.forms.get(ast)
    if (known !== undefined) return known
    const form = this.build(ast)
    this.forms.set(ast, form)
    return form
  }

  private build(ast: AST.AST): Form {
    const wire = lookup<WireForm>(ast, "wire")
    if (wire === "map") return this.map(ast)
    if (wire === "void") return { bytesMin: 0, layout: "void", write: () => "", read: "null" }
    if (typeof wire === "string") return primitive(wire)
    if (wire !== undefined && "fixed" in wire) return this.fixed(wire.fixed)
    if (wire !== undefined) return this.enumeration(wire.enum)
    switch (ast._tag) {
      case "String":
        return primitive("str")
      case "Boolean":
        return primitive("bool")
      case "Null":
        return { bytesMin: 0, layout: "void", write: () => "", read: "null" }
      case "Literal":
        return { bytesMin: 0, layout: "void", write: () => "", read: JSON.stringify(ast.literal) }
      case "Suspend":
        return this.recursive(ast)
      case "Arrays":
        return this.arrays(ast)
      case "Objects":
        return this.struct(ast)
      case "Union":
        return this.union(ast)
      default:
        return unsupported(ast, "annotate it with `wire`")
    }
  }

  private fixed(size: number): Form {
    const layout = `data[${size}]`
    return { bytesMin: size, layout, write: (value) => `w.fixed(${value},${size});`, read: `r.fixed(${size})` }
  }

  private enumeration(values: Readonly<Record<string, number>>): Form {
    const numbers = this.constant(new Map(Object.entries(values)))
    const literals = this.constant(new Map(Object.entries(values).map(([literal, number]) => [number, literal])))
    const name = this.name("enum")
    this.source.push(
      `const ${name}n=${numbers},${name}l=${literals};`,
      `function w_${name}(w,v){const n=${name}n.get(v);if(n===undefined)w.fail("Tag");w.uint(n)}`,
      `function r_${name}(r){const at=r.pos,l=${name}l.get(r.uint());if(l===undefined){r.pos=at;r.fail("Tag")}return l}`
    )
    const layout = `enum(${Object.entries(values).map(([literal, number]) => `${literal}=${number}`)})`
    return { bytesMin: 1, layout, write: (value) => `w_${name}(w,${value});`, read: `r_${name}(r)` }
  }

  private recursive(ast: AST.Suspend): Form {
    const name = this.name("again")
    const form: Form = { bytesMin: 0, layout: name, write: (value) => `w_${name}(w,${value});`, read: `r_${name}(r)` }
    // Entered before its body is compiled, or the recursion would never end here either.
    this.forms.set(ast, form)
    const inner = this.form(AST.toType(ast.thunk()))
    this.source.push(
      `function w_${name}(w,v){w.down();${inner.write("v")}w.up()}`,
      `function r_${name}(r){r.down();const v=${inner.read};r.up();return v}`
    )
    return form
  }

  private arrays(ast: AST.Arrays): Form {
    const name = this.name("list")
    const element = ast.rest[0]
    if (ast.elements.length === 0 && element !== undefined && ast.rest.length === 1) {
      const form = this.form(element)
      const step = `"["+i+"]"`
      this.source.push(
        `function w_${name}(w,v){const n=v.length;w.count(n);for(let i=0;i<n;i++){${this.at(step, form.write("v[i]"))}}}`,
        `function r_${name}(r){const n=r.count(${form.bytesMin}),out=[];for(let i=0;i<n;i++){${this.at(step, `out.push(${form.read});`)}}return out}`
      )
      const layout = `list(${form.layout})`
      return { bytesMin: 1, layout, write: (value) => `w_${name}(w,${value});`, read: `r_${name}(r)` }
    }
    if (ast.rest.length > 0 || ast.elements.some(AST.isOptional)) return unsupported(ast, "a list or a tuple, not both")
    const forms = ast.elements.map((part) => this.form(part))
    const writes = forms.map((form, i) => this.at(`"[${i}]"`, form.write(`v[${i}]`))).join("")
    const reads = forms.map((form, i) => this.at(`"[${i}]"`, `const v${i}=${form.read};`)).join("")
    this.source.push(
      `function w_${name}(w,v){if(v.length!==${forms.length})w.fail("Length");${writes}}`,
      `function r_${name}(r){${reads}return[${forms.map((_, i) => `v${i}`).join(",")}]}`
    )
    const bytesMin = forms.reduce((sum, form) => sum + form.bytesMin, 0)
    const layout = `tuple(${forms.map((form) => form.layout)})`
    return { bytesMin, layout, write: (value) => `w_${name}(w,${value});`, read: `r_${name}(r)` }
  }

  private map(ast: AST.AST): Form {
    if (!AST.isDeclaration(ast)) return unsupported(ast, "a map is a ReadonlyMap")
    const [keyType, valueType] = ast.typeParameters as readonly [AST.AST, AST.AST]
    // Two equal byte arrays are two keys to a JavaScript Map, so duplicates among them would pass.
    const keyWire = lookup<WireForm>(keyType, "wire") ?? (AST.isString(keyType) ? "str" : undefined)
    if (keyWire === undefined || keyWire === "data" || (typeof keyWire === "object" && "fixed" in keyWire))
      return unsupported(ast, "a map's key is text, a number, a bool or an enum")
    const key = this.form(keyType)
    const value = this.form(valueType)
    const name = this.name("map")
    const step = `"["+i+"]"`
    this.source.push(
      `function w_${name}(w,v){w.count(v.size);let i=0;for(const[k,x]of v){${this.at(step, key.write("k") + value.write("x"))}i++}}`,
      `function r_${name}(r){const n=r.count(${key.bytesMin + value.bytesMin}),out=new Map();for(let i=0;i<n;i++){${this.at(
        step,
        `const at=r.pos,k=${key.read};out.set(k,${value.read});if(out.size===i){r.pos=at;r.fail("DuplicateKey")}`
      )}}return out}`
    )
    const layout = `map(${key.layout},${value.layout})`
    return { bytesMin: 1, layout, write: (v) => `w_${name}(w,${v});`, read: `r_${name}(r)` }
  }

  private struct(ast: AST.Objects): Form {
    if (ast.indexSignatures.length > 0) return unsupported(ast, "an index signature; use `map`")
    const name = this.name("struct")
    const fields = ast.propertySignatures.map((property) => {
      if (AST.isOptional(property.type)) return unsupported(ast, "an absent field; use `optional`")
      if (typeof property.name !== "string" || property.name === "__proto__")
        return unsupported(ast, "such a field name")
      return {
        key: JSON.stringify(property.name),
        step: JSON.stringify(`.${property.name}`),
        form: this.form(property.type)
      }
    })
    const writes = fields.map(({ key, step, form }) => this.at(step, form.write(`v[${key}]`))).join("")
    const reads = this.traced
      ? `const o={};${fields.map(({ key, step, form }) => this.at(step, `o[${key}]=${form.read};`)).join("")}return o`
      : `return{${fields.map(({ key, form }) => `${key}:${form.read}`).join(",")}}`
    this.source.push(`function w_${name}(w,v){${writes}}`, `function r_${name}(r){${reads}}`)
    const bytesMin = fields.reduce((sum, { form }) => sum + form.bytesMin, 0)
    const layout = `struct(${fields.map(({ key, form }) => `${key}:${form.layout}`)})`
    return { bytesMin, layout, write: (value) => `w_${name}(w,${value});`, read: `r_${name}(r)` }
  }

  private optional(some: AST.AST): Form {
    const form = this.form(some)
    const name = this.name("maybe")
    this.source.push(
      `function w_${name}(w,v){if(v===null)w.byte(0);else{w.byte(1);${form.write("v")}}}`,
      `function r_${name}(r){return r.bool()?${form.read}:null}`
    )
    const layout = `optional(${form.layout})`
    return { bytesMin: 1, layout, write: (value) => `w_${name}(w,${value});`, read: `r_${name}(r)` }
  }

  private union(ast: AST.Union): Form {
    const members = ast.types.filter((member) => !AST.isNull(member))
    if (members.length === 1 && ast.types.length === 2) return this.optional(members[0] as AST.AST)
    const name = this.name("union")
    const numbers = new Set<number>()
    const tags = new Map<string, number>()
    let discriminator: string | undefined
    const parts = ast.types.map((member) => {
      const number = lookup<number>(member, "wireTag")
      const literal = AST.isObjects(member)
        ? member.propertySignatures.find((property) => literalOf(property.type) !== undefined)
        : undefined
      if (number === undefined || literal === undefined)
        return unsupported(member, "a union member needs `wireTag` and a literal")
      const tag = JSON.stringify(literalOf(literal.type))
      const key = JSON.stringify(literal.name)
      if (discriminator !== undefined && discriminator !== key) return unsupported(member, "another discriminator")
      if (numbers.has(number) || tags.has(tag)) return unsupported(member, `tag ${number} or ${tag} used twice`)
      discriminator = key
      numbers.add(number)
      tags.set(tag, number)
      const step = JSON.stringify(`.${literalOf(literal.type)}`)
      return { number, tag, step, form: this.form(member) }
    })
    // Numbers below 128 are one byte as a `uint` too, and a longer spelling of them is not canonical: no member, either way.
    const narrow = parts.every(({ number }) => number < 0x80)
    const tag = narrow ? "r.u8()" : "r.uint()"
    const writeTag = (number: number) => (narrow ? `w.byte(${number});` : `w.uint(${number});`)
    this.source.push(
      `function w_${name}(w,v){switch(v[${discriminator}]){${parts
        .map(({ number, tag, step, form }) => `case ${tag}:${writeTag(number)}${this.at(step, form.write("v"))}return;`)
        .join("")}}w.fail("Tag")}`,
      `function r_${name}(r){const at=r.pos;let v;switch(${tag}){${parts
        .map(({ number, step, form }) => `case ${number}:${this.at(step, `v=${form.read};`)}return v;`)
        .join("")}}r.pos=at;r.fail("Tag")}`
    )
    const bytesMin = 1 + Math.min(...parts.map(({ form }) => form.bytesMin))
    const layout = `union(${parts.map(({ number, tag, form }) => `${number}=${tag}:${form.layout}`)})`
    return { bytesMin, layout, write: (value) => `w_${name}(w,${value});`, read: `r_${name}(r)` }
  }
}

/** Compiles once; run at module load. A schema without a BARE form is a fault of the program, and throws. */
export const compile = (schema: Schema.Top, traced: boolean): Program =>
  new Compiler(traced).program(AST.toType(schema.ast))
