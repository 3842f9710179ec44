import { createHash } from "node:crypto";
import type { ExampleShape } from "../../../protocol/data-schema.ts";
import type { Encoder } from "../../../protocol/messages/dataset.ts";
import type { PreparationStep } from "../../../protocol/preparation.ts";
import type { TypedColumn } from "./column-kinds.ts";
import { misfit, pick } from "./steps.ts";
import { type Cell, own, quoted, type Tables } from "./tables.ts";
import { fitTokens, tokenCount, tokeniser } from "./tokens.ts";

type EncodeStep = Extract<PreparationStep, { do: "encode" }>;
type TokeniseStep = Extract<PreparationStep, { do: "tokenise" }>;
type Feature = NonNullable<ExampleShape["features"]>[number];

/**
 * How each column becomes numbers: as the steps say, else a number as it is and a category one-hot. Vocabularies are those
 * of the training rows.
 */
export async function fitEncoders(
  tables: Tables,
  columns: readonly TypedColumn[],
  steps: readonly PreparationStep[],
): Promise<Encoder[]> {
  const encoded = new Map<string, EncodeStep>();
  const tokenised = new Map<string, TokeniseStep>();
  for (const step of steps) {
    if (step.do === "encode") {
      const chosen = pick(step.columns, { columns }, ({ kind }) => kind === "category");
      for (const { name } of chosen) encoded.set(name, step);
    } else if (step.do === "tokenise") {
      for (const { name } of pick(step.columns, { columns }, () => false)) tokenised.set(name, step);
    }
  }
  const encoders: Encoder[] = [];
  for (const column of columns) {
    encoders.push(await fitEncoder(tables, column, encoded.get(column.name), tokenised.get(column.name)));
  }
  return encoders;
}

const defaultEncode: EncodeStep = { do: "encode", method: "one-hot", buckets: 1_024, valuesMax: 1_024 };

async function fitEncoder(
  tables: Tables,
  { name, kind }: TypedColumn,
  encode: EncodeStep | undefined,
  tokenise: TokeniseStep | undefined,
): Promise<Encoder> {
  if (tokenise) {
    const texts = tokenise.method === "bytes" ? [] : await trainTexts(tables, name);
    return fitTokens(tokenise, { column: name, length: tokenise.length }, () => texts);
  }
  if (kind === "text") {
    throw misfit(`column ${name} holds texts: add a step \`do: tokenise\`, or name the column in \`ignore\``);
  }
  if (kind === "number" && !encode) return { kind: "number", column: name };
  const { method, buckets, valuesMax } = encode ?? defaultEncode;
  if (method === "hashing") return { kind: "hashing", column: name, buckets };
  const column = quoted(name);
  // By how common, then by name: the order is the same however the rows lie.
  const values = await tables.rows(
    `SELECT CAST(${column} AS VARCHAR) FROM typed WHERE NOT ${own.isTest} AND ${column} IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT ${valuesMax}`,
  );
  if (values.length === 0) throw misfit(`encode: no training row has a value of ${name}`);
  return { kind: method, column: name, values: values.map(([value]) => String(value)) };
}

async function trainTexts(tables: Tables, name: string): Promise<string[]> {
  const rows = await tables.rows(
    `SELECT ${quoted(name)} FROM typed WHERE NOT ${own.isTest} AND ${quoted(name)} IS NOT NULL`,
  );
  return rows.map(([cell]) => String(cell));
}

export function featureOf(encoder: Encoder, name: string): Feature {
  switch (encoder.kind) {
    case "number":
      return { name, shape: [], kind: "number" };
    case "one-hot":
      return { name, shape: [encoder.values.length], kind: "number" };
    case "index":
      return { name, shape: [], kind: "category", cardinality: encoder.values.length + 1 };
    case "hashing":
      return { name, shape: [], kind: "category", cardinality: encoder.buckets };
    case "bytes":
    case "words":
    case "bpe":
      return { name, shape: [encoder.length], kind: "category", cardinality: tokenCount(encoder) };
  }
}

/** Writes one cell as the numbers of its feature. A missing category or text is unknown: zeros. */
export type CellWriter = (cell: Cell, row: Float32Array, offset: number) => void;

/** @param onTokens told the tokens of each text that there is, before they are cut */
export function cellWriter(encoder: Encoder, onTokens?: (tokens: readonly number[]) => void): CellWriter {
  switch (encoder.kind) {
    case "number":
      return (cell, row, offset) => {
        row[offset] = Number(cell);
      };
    case "one-hot": {
      const places = placesOf(encoder.values);
      return (cell, row, offset) => {
        const place = places.get(String(cell));
        if (place !== undefined) row[offset + place] = 1;
      };
    }
    case "index": {
      const places = placesOf(encoder.values);
      return (cell, row, offset) => {
        row[offset] = 1 + (places.get(String(cell)) ?? -1);
      };
    }
    case "hashing":
      return (cell, row, offset) => {
        const digest = createHash("md5").update(String(cell)).digest();
        row[offset] = digest.readUInt32BE(0) % encoder.buckets;
      };
    case "bytes":
    case "words":
    case "bpe": {
      const tokenise = tokeniser(encoder);
      return (cell, row, offset) => {
        const tokens = tokenise(String(cell ?? ""));
        if (cell !== null) onTokens?.(tokens);
        row.set(tokens.slice(0, encoder.length), offset);
      };
    }
  }
}

const placesOf = (values: readonly string[]): ReadonlyMap<string, number> =>
  new Map(values.map((value, place) => [value, place]));
