import type { KeyDifference } from "../../protocol/messages/document.ts";

/**
 * Where two JSON values differ: leaf by leaf, by the paths of their keys. Lists of objects are gone through by their places, other
 * lists are leaves.
 */
export function differences(before: unknown, after: unknown): KeyDifference[] {
  const [left, right] = [leavesOf(before), leavesOf(after)];
  const paths = [...new Set([...left.keys(), ...right.keys()])];
  return paths
    .filter((path) => JSON.stringify(left.get(path)) !== JSON.stringify(right.get(path)))
    .map((path) => ({ path, before: left.get(path), after: right.get(path) }));
}

function leavesOf(value: unknown, path = ""): Map<string, unknown> {
  if (value === undefined) return new Map();
  const isLeaf = Array.isArray(value) ? !value.some(isObject) : !isObject(value);
  if (isLeaf) return new Map([[path, value]]);
  const inner = Object.entries(value as object);
  return new Map(inner.flatMap(([key, part]) => [...leavesOf(part, path === "" ? key : `${path}.${key}`)]));
}

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null;
