import { readFile } from "node:fs/promises";
import { z } from "zod";
import { readToken, tokenClaimsSchema } from "../../protocol/credentials.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { writePrivateFile } from "../network/identity.ts";

/** What an agent keeps of its joining, so that it comes back after a restart without a token. */
const fileSchema = z.object({
  token: z.string(),
  claims: tokenClaimsSchema,
  membership: z.string().nullable(),
});
export type AgentCredentials = z.infer<typeof fileSchema>;

/**
 * From the token when one is given (a new cluster or a first join), else from the file.
 * @throws RingfoldError TOKEN_INVALID | TOKEN_EXPIRED | CONFIG_INVALID
 */
export async function loadCredentials(
  path: string,
  token: string | undefined,
  nowMs: number,
): Promise<AgentCredentials> {
  const stored = await readStored(path);
  if (token === undefined) {
    if (stored) return stored;
    throw new RingfoldError("TOKEN_INVALID", "this machine has not joined a cluster yet", {
      remedy:
        "Give a token: `ringfold agent --join TOKEN`; `ringfold token` makes one where the coordinator runs.",
    });
  }
  const claims = await readToken(token.trim(), nowMs);
  const sameCluster = stored?.claims.authority.x === claims.authority.x;
  return { token: token.trim(), claims, membership: sameCluster ? stored.membership : null };
}

export async function saveCredentials(path: string, credentials: AgentCredentials): Promise<void> {
  await writePrivateFile(path, `${JSON.stringify(credentials)}\n`);
}

async function readStored(path: string): Promise<AgentCredentials | undefined> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new RingfoldError("CONFIG_INVALID", `${path}: ${error.message}`, { path }, { cause: error });
  });
  if (text === undefined) return undefined;
  try {
    return fileSchema.parse(JSON.parse(text));
  } catch (cause) {
    const remedy = "Delete the file and join again with a token.";
    throw new RingfoldError("CONFIG_INVALID", `${path} is damaged`, { path, remedy }, { cause });
  }
}
