import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import { aliasSchema, nameSchema } from "../../protocol/ids.ts";
import type { AliasRequest } from "../../protocol/messages/api.ts";

export const aliasRecordSchema = z.object({
  name: nameSchema,
  alias: aliasSchema,
  version: z.number().int().positive(),
  movedAtMs: z.number(),
});
export type AliasRecord = z.infer<typeof aliasRecordSchema>;

/**
 * Moves an alias, or makes it: compare and set, so that of two who move it at once one is told.
 * @param known where it points now
 * @throws RingfoldError CONFLICT when it does not point where the request says
 */
export function decideAlias(
  known: AliasRecord | undefined,
  { name, alias, version, from }: AliasRequest & Pick<AliasRecord, "name" | "alias">,
  nowMs: number,
): { readonly record: AliasRecord; readonly reason: string } {
  const present = known?.version ?? null;
  if (from !== undefined && from !== present) {
    const where = present === null ? "does not exist" : `points to ${name}@${present}`;
    throw new RingfoldError("CONFLICT", `${name}@${alias} ${where}`, { name, alias, version: present });
  }
  const record = { name, alias, version, movedAtMs: nowMs };
  const before = present === null ? "" : `, was ${name}@${present}`;
  return { record, reason: `${alias} is ${name}@${version} now${before}` };
}
