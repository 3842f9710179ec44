import { open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { type Document, isCollection, LineCounter, type Node, parseDocument, visit } from "yaml";
import { RingfoldError } from "../protocol/errors.ts";
import { type DataSpec, type JobSpec, jobSpecSchema } from "../protocol/job-spec.ts";
import { locateMistakes, type Mistake, positionAt } from "./job-file-mistakes.ts";

/** A TF.js topology of a hundred layers is 100 KB; whoever has more than this gave the wrong file. */
const jobFileBytesMax = 1024 * 1024;
/** Anchors may save some typing; a bomb of nested ones multiplies. */
const aliasCountMax = 100;

/**
 * Reads a job file (docs/job-file.md). Paths of data files are taken from the job file's folder and come back absolute.
 *
 * @throws RingfoldError FILE_NOT_FOUND | JOB_INVALID; the latter names every mistake as `file:line:column key: what`
 */
export async function readJobFile(path: string): Promise<JobSpec> {
  const text = decodeText(await readBounded(path), path);
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = [...document.errors, ...document.warnings];
  if (broken.length > 0) {
    throw jobInvalid(
      path,
      broken.map((error) => ({ ...positionAt(lines, error.pos[0]), key: "", message: error.message })),
    );
  }
  const value = toPlainValue(document, lines, path);
  const result = jobSpecSchema.safeParse(value);
  if (!result.success) throw jobInvalid(path, locateMistakes(result.error.issues, document, lines, value));
  return { ...result.data, data: resolveData(result.data.data, dirname(resolve(path))) };
}

async function readBounded(path: string): Promise<Uint8Array> {
  const handle = await open(path, "r").catch((cause: NodeJS.ErrnoException) => {
    const problem = cause.code === "ENOENT" ? "no such file" : (cause.code ?? "cannot be read");
    throw new RingfoldError("FILE_NOT_FOUND", `${path}: ${problem}`, { path }, { cause });
  });
  try {
    if ((await handle.stat()).isDirectory()) {
      throw new RingfoldError("FILE_NOT_FOUND", `${path} is a folder, not a job file`, { path });
    }
    // One byte more than allowed: a pipe has no size to ask for.
    const buffer = new Uint8Array(jobFileBytesMax + 1);
    let length = 0;
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
      length += bytesRead;
      if (bytesRead === 0 || length === buffer.length) break;
    }
    if (length <= jobFileBytesMax) return buffer.subarray(0, length);
  } finally {
    await handle.close();
  }
  throw jobInvalid(path, [{ line: 1, column: 1, key: "", message: "the file is larger than 1 MiB" }]);
}

function decodeText(bytes: Uint8Array, path: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw jobInvalid(path, [{ line: 1, column: 1, key: "", message: "the file is not UTF-8 text" }]);
  }
}

function toPlainValue(document: Document.Parsed, lines: LineCounter, path: string): unknown {
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
  if (mistakes.length > 0) throw jobInvalid(path, mistakes);
  try {
    return document.toJS({ maxAliasCount: aliasCountMax });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : "the aliases cannot be resolved";
    throw jobInvalid(path, [{ line: 1, column: 1, key: "", message }]);
  }
}

function resolveData(data: DataSpec, folder: string): DataSpec {
  if (data.source !== "idx") return data;
  return {
    ...data,
    trainImages: resolve(folder, data.trainImages),
    trainLabels: resolve(folder, data.trainLabels),
    testImages: resolve(folder, data.testImages),
    testLabels: resolve(folder, data.testLabels),
  };
}

function jobInvalid(path: string, mistakes: readonly Mistake[]): RingfoldError {
  const inOrder = mistakes.toSorted((a, b) => a.line - b.line || a.column - b.column);
  const lines = inOrder.map(({ line, column, key, message }) => {
    const where = `${path}:${line}:${column}`;
    return key === "" ? `${where} ${message}` : `${where} ${key}: ${message}`;
  });
  return new RingfoldError("JOB_INVALID", lines.join("\n"), { path, mistakes: lines });
}
