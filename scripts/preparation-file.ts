import { type Preparation, preparationSchema } from "../protocol/preparation.ts";
import { readYamlFile } from "./yaml-file.ts";

/**
 * Reads a pipeline file (docs/data.md).
 * @param target of a table, where the command line names one; it goes before that of the file
 * @throws RingfoldError FILE_NOT_FOUND | DATA_INVALID; the latter names every mistake as `file:line:column key: what`
 */
export const readPreparationFile = (path: string, target: string | undefined): Promise<Preparation> =>
  readYamlFile(path, {
    schema: preparationSchema,
    code: "DATA_INVALID",
    remedy: "Correct the lines that the message names; docs/data.md lists every key of a pipeline.",
    complete: (value) => withTarget(value, target),
  });

export function withTarget(value: unknown, column: string | undefined): unknown {
  if (column === undefined || typeof value !== "object" || value === null) return value;
  const { kind, target } = value as { readonly kind?: unknown; readonly target?: object };
  if (kind !== "table") return value;
  return { ...value, target: { ...target, column } };
}
