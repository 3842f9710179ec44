import { isDeepStrictEqual } from "node:util";
import { z } from "zod";

/**
 * One difference between two plain values (what msgpack carries): at `path` stands `value` now, or nothing any more, or
 * of an array the elements from `from` on are `tail` now. Lists that only grow, as those of a job do, cost what was added.
 */
export const changeSchema = z.union([
  z.strictObject({ path: z.array(z.union([z.string(), z.number()])), value: z.unknown() }),
  z.strictObject({ path: z.array(z.union([z.string(), z.number()])), removed: z.literal(true) }),
  z.strictObject({
    path: z.array(z.union([z.string(), z.number()])),
    from: z.number().int().nonnegative(),
    tail: z.array(z.unknown()),
  }),
]);
export type Change = z.infer<typeof changeSchema>;
type Path = Change["path"];

/** `applyChanges(before, changesBetween(before, after))` equals `after`. `undefined` is a value that is not there. */
export function changesBetween(before: unknown, after: unknown, path: Path = []): Change[] {
  if (isDeepStrictEqual(before, after)) return [];
  if (after === undefined) return [{ path, removed: true }];
  if (Array.isArray(before) && Array.isArray(after)) return changesOfArrays(before, after, path);
  if (!isRecord(before) || !isRecord(after)) return [{ path, value: after }];
  const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...keys].flatMap((key) => changesBetween(before[key], after[key], [...path, key]));
}

/** The value after the changes; `value` itself stays as it is. */
export function applyChanges(value: unknown, changes: readonly Change[]): unknown {
  const root = { value: structuredClone(value) };
  for (const change of changes) {
    const path: Path = ["value", ...change.path];
    const key = path.at(-1)!;
    let at = root as Record<string | number, unknown>;
    for (const step of path.slice(0, -1)) at = at[step] as typeof at;
    if ("removed" in change) delete at[key];
    else if ("from" in change) at[key] = [...(at[key] as unknown[]).slice(0, change.from), ...change.tail];
    else at[key] = change.value;
  }
  return root.value;
}

function changesOfArrays(before: readonly unknown[], after: readonly unknown[], path: Path): Change[] {
  if (before.length === after.length)
    return after.flatMap((element, i) => changesBetween(before[i], element, [...path, i]));
  const differs = after.findIndex(
    (element, i) => i >= before.length || !isDeepStrictEqual(element, before[i]),
  );
  const from = differs < 0 ? after.length : differs;
  return [{ path, from, tail: after.slice(from) }];
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
