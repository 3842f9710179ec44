import { open } from "node:fs/promises";
import { type Document, isCollection, LineCounter, type Node, parseDocument, visit } from "yaml";
import type { z } from "zod";
import { type ErrorCode, RingfoldError } from "../protocol/errors.ts";
import { locateMistakes, type Mistake, positionAt } from "./yaml-mistakes.ts";

/** A TF.js topology of a hundred layers is 100 KB; whoever has more than this gave the wrong file. */
const fileBytesMax = 1024 * 1024;
/** Anchors may save some typing; a bomb of nested ones multiplies. */
const aliasCountMax = 100;

/** What a file is to be. */
export interface YamlKind<T> {
  readonly schema: z.ZodType<T>;
  /** Of the error for a file that is something else, and what to do about it. */
  readonly code: ErrorCode;
  readonly remedy?: string;
  /** Completes what the file says before it is checked. */
  readonly complete?: (value: unknown) => unknown | Promise<unknown>;
}

/**
 * Reads a YAML file that a schema describes.
 * @throws RingfoldError FILE_NOT_FOUND, or the code of the kind: that names every mistake as `file:line:column key: what`
 */
export async function readYamlFile<T>(path: string, kind: YamlKind<T>): Promise<T> {
  const invalid = (mistakes: readonly Mistake[]) => fileInvalid(path, mistakes, kind);
  const text = decodeText(await readBounded(path, invalid), invalid);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) {
    throw invalid(
      broken.map((error) => ({ ...positionAt(lines, error.pos[0]), key: "", message: error.message })),
    );
  }
  const plain = toPlainValue(document, lines, invalid);
  const value = kind.complete ? await kind.complete(plain) : plain;
  const result = kind.schema.safeParse(value);
  if (result.success) return result.data;
  throw invalid(locateMistakes(result.error.issues, kind.schema, { document, lines, value }));
}

type Invalid = (mistakes: readonly Mistake[]) => RingfoldError;

async function readBounded(path: string, invalid: Invalid): Promise<Uint8Array> {
  const handle = await open(path, "r").catch((cause: NodeJS.ErrnoException) => {
    const problem = cause.code === "ENOENT" ? "no such file" : (cause.code ?? "cannot be read");
    throw new RingfoldError("FILE_NOT_FOUND", `${path}: ${problem}`, { path }, { cause });
  });
  try {
    if ((await handle.stat()).isDirectory()) {
      throw new RingfoldError("FILE_NOT_FOUND", `${path} is a folder, not a file`, { path });
    }
    // One byte more than allowed: a pipe has no size to ask for.
    const buffer = new Uint8Array(fileBytesMax + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
      length += bytesRead;
      if (bytesRead === 0 || length === buffer.length) break;
    }
    if (length <= fileBytesMax) return buffer.subarray(0, length);
  } finally {
    await handle.close();
  }
  throw invalid([{ line: 1, column: 1, key: "", message: "the file is larger than 1 MiB" }]);
}

function decodeText(bytes: Uint8Array, invalid: Invalid): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw invalid([{ line: 1, column: 1, key: "", message: "the file is not UTF-8 text" }]);
  }
}

function toPlainValue(document: Document.Parsed, lines: LineCounter, invalid: Invalid): unknown {
  const mistakes: Mistake[] = [];
  const report = (node: Node, message: string): void => {
    mistakes.push({ ...positionAt(lines, node.range?.[0] ?? 0), key: "", message });
  };
  visit(document, {
    Alias(_key, alias) {
      if (!alias.resolve(document)) report(alias, `no anchor &${alias.source} before this alias`);
    },
    Pair(_key, { key }) {
      if (isCollection(key)) report(key, "a key must be a word, not a list or a map");
    },
  });
  if (mistakes.length > 0) throw invalid(mistakes);
  try {
    return document.toJS({ maxAliasCount: aliasCountMax });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : "the aliases cannot be resolved";
    throw invalid([{ line: 1, column: 1, key: "", message }]);
  }
}

function fileInvalid(
  path: string,
  mistakes: readonly Mistake[],
  { code, remedy }: Pick<YamlKind<unknown>, "code" | "remedy">,
): RingfoldError {
  const inOrder = mistakes.toSorted((a, b) => a.line - b.line || a.column - b.column);
  const lines = inOrder.map(({ line, column, key, message }) => {
    const where = `${path}:${line}:${column}`;
    return key === "" ? `${where} ${message}` : `${where} ${key}: ${message}`;
  });
  return new RingfoldError(code, lines.join("\n"), { path, mistakes: lines, ...(remedy ? { remedy } : {}) });
}
