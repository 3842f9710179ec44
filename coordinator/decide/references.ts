import { RingfoldError } from "../../protocol/errors.ts";

/** Why something that is registered under a name must stay, by number. */
export type References = ReadonlyMap<number, string>;

/** @throws RingfoldError CONFLICT when something needs it */
export function assertRemovable(
  { name, version }: { readonly name: string; readonly version: number },
  references: References,
  remedy: string,
): void {
  const reason = references.get(version);
  if (reason === undefined) return;
  throw new RingfoldError("CONFLICT", `${name}@${version} stays: ${reason}`, { name, version, remedy });
}
