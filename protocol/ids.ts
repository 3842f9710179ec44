import { z } from "zod";

/** A libp2p peer id in its text form (Ed25519 keys: 12D3KooW...). */
export const peerIdSchema = z.string().regex(/^[1-9A-HJ-NP-Za-km-z]{40,64}$/, "not a peer id");

/** SHA-256 in lower-case hexadecimal. */
export const digestSchema = z.string().regex(/^[0-9a-f]{64}$/, "not a SHA-256 digest");

/** Names of models, jobs and deployments: they stand in URLs and file names. */
export const nameSchema = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._-]{0,62}$/,
    "use 1-63 of a-z, 0-9, dot, dash and underscore, not starting with a sign",
  );

/** A name that moves from version to version; never a number, as those are versions. */
export const aliasSchema = z
  .string()
  .regex(/^[a-z][a-z0-9-]{0,31}$/, "use 1-32 of a-z, 0-9 and dash, beginning with a letter");

/** Which version of a name: its number, or an alias that points to it. */
export const selectorSchema = z.union([z.coerce.number().int().positive(), aliasSchema]);
export type Selector = z.infer<typeof selectorSchema>;

export const roleSchema = z.enum(["worker", "server", "coordinator", "operator"]);
export type Role = z.infer<typeof roleSchema>;

/** First characters of a peer id's end, enough for a person to tell peers apart (the beginnings are alike). */
export const shortPeer = (peerId: string): string => peerId.slice(-6);
