import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter, type Node } from "yaml";
import { z } from "zod";

/** One thing to correct. Lines and columns count from 1; `key` is dotted, and empty for the file as a whole. */
export interface Mistake {
  readonly line: number;
  readonly column: number;
  readonly key: string;
  readonly message: string;
}

type Issue = z.core.$ZodIssue;
type KeyPath = readonly PropertyKey[];

/**
 * Turns what the schema found into places in the file and words for a person: a wrong value or an unknown key stands at
 * its own key, a missing one at the key of its parent.
 *
 * @param value what the document holds, for choosing between the shapes that a key allows
 */
export function locateMistakes(
  issues: readonly Issue[],
  schema: z.ZodType,
  {
    document,
    lines,
    value,
  }: { readonly document: Document.Parsed; readonly lines: LineCounter; readonly value: unknown },
): Mistake[] {
  const at = (path: KeyPath, message: string): Mistake => ({
    ...positionAt(lines, offsetOf(document, path)),
    key: path.map(String).join("."),
    message,
  });
  return issues.flatMap((issue) => {
    if (issue.code !== "unrecognized_keys") return [at(issue.path, describe(issue, value))];
    const allowed = allowedKeys(schema, issue.path, value);
    return issue.keys.map((key) => at([...issue.path, key], `unknown key (${suggest(key, allowed)})`));
  });
}

export function positionAt(lines: LineCounter, offset: number): { line: number; column: number } {
  const { line, col } = lines.linePos(offset);
  return { line, column: col };
}

/** Where the last key of `path` that exists stands in the text. */
function offsetOf(document: Document.Parsed, path: KeyPath): number {
  let node: unknown = document.contents;
  let offset = startOf(node) ?? 0;
  for (const segment of path) {
    if (isAlias(node)) node = node.resolve(document);
    if (isMap(node)) {
      const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(segment));
      if (!pair) return offset;
      offset = startOf(pair.key) ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(segment)];
      offset = startOf(node) ?? offset;
    } else return offset;
  }
  return offset;
}

const startOf = (node: unknown): number | undefined => (node as Node | null)?.range?.[0];

function describe(issue: Issue, value: unknown): string {
  const found = valueAt(value, issue.path);
  const choices = choicesOf(issue);
  if (found === undefined) {
    return choices ? `is missing: choose one of ${choices.join(", ")}` : "is missing";
  }
  if (choices) return `${JSON.stringify(found)}: choose one of ${choices.join(", ")}`;
  if (issue.code === "invalid_type") {
    const expected = issue.expected === "int" ? "a whole number" : `of type ${issue.expected}`;
    return `must be ${expected}, and is ${JSON.stringify(found)}`;
  }
  // The refinements of the schema are already sentences; zod's own begin with "Too big: expected number to be ...".
  return issue.message.replace(/^[A-Z][a-z ]+: expected \w+ to /, "must ");
}

function choicesOf(issue: Issue): string[] | undefined {
  if (issue.code === "invalid_value") return issue.values.map(String);
  if (issue.code === "invalid_union" && "options" in issue) return issue.options?.map(String);
  return undefined;
}

function valueAt(value: unknown, path: KeyPath): unknown {
  let inner = value;
  for (const segment of path) {
    if (typeof inner !== "object" || inner === null) return undefined;
    inner = (inner as Record<PropertyKey, unknown>)[segment];
  }
  return inner;
}

/** The part of a JSON schema that we read. */
interface ObjectSchema {
  readonly properties?: Readonly<Record<string, ObjectSchema>>;
  readonly oneOf?: readonly ObjectSchema[];
  readonly items?: ObjectSchema;
  readonly const?: unknown;
}

/** The keys that may stand beside the last one of `path`, for the shape that the file has chosen. */
function allowedKeys(whole: z.ZodType, path: KeyPath, value: unknown): string[] {
  let schema: ObjectSchema | undefined = z.toJSONSchema(whole, { io: "input" }) as ObjectSchema;
  let inner = value;
  for (const segment of path) {
    schema =
      typeof segment === "number" ? schema?.items : chosenShape(schema, inner)?.properties?.[String(segment)];
    inner = valueAt(inner, [segment]);
  }
  return Object.keys(chosenShape(schema, inner)?.properties ?? {});
}

/** Of several shapes the one whose constants (`kind: adam`) the value has. */
const chosenShape = (schema: ObjectSchema | undefined, value: unknown): ObjectSchema | undefined =>
  schema?.oneOf?.find(({ properties = {} }) =>
    Object.entries(properties).every(
      ([key, { const: constant }]) => constant === undefined || constant === valueAt(value, [key]),
    ),
  ) ?? schema;

/** Most slips are `learning_rate` or `batchsize`; for any other the list is short enough to read. */
function suggest(key: string, allowed: readonly string[]): string {
  const plain = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const meant = allowed.find((candidate) => plain(candidate) === plain(key));
  return meant === undefined ? `allowed: ${allowed.join(", ")}` : `did you mean ${meant}?`;
}
