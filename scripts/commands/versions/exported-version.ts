import { existsSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { z } from "zod";
import { openArtefactStore } from "../../../agent/artefact/store.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { digestSchema, shortPeer } from "../../../protocol/ids.ts";
import type { VersionDetail } from "../../../protocol/messages/api.ts";
import { versionManifestSchema } from "../../../protocol/messages/model.ts";
import { connectApi } from "../api-client.ts";
import type { VersionSelector } from "../arguments.ts";
import { type CommandContext, type CommandResult, ringfoldHome } from "../command.ts";

/** A version in a folder: what it holds, by file. */
export const exportedFiles = {
  weights: "weights.safetensors",
  version: "version.json",
  /** A DSSE envelope around an in-toto statement; not there when nobody has signed the version. */
  attestation: "attestation.json",
  /** Another, by the cluster's authority; not there of a version of an earlier release. */
  registration: "registration.json",
} as const;

/** What stands in `version.json`. */
export const exportedVersionSchema = z.object({
  format: z.literal(1),
  version: z.number().int().positive(),
  /** Of the manifest. */
  digest: digestSchema,
  manifest: versionManifestSchema,
});

/**
 * Writes a version into a new folder, which appears when all of it is there. Weights come from the store of an agent on this
 * machine, which compares them with their digest.
 * @throws RingfoldError NOT_FOUND | CONFLICT when there is such a folder | ARTEFACT_MISSING | ARTEFACT_CORRUPT | CONFIG_INVALID
 */
export async function exportVersion(
  { name, selector }: VersionSelector,
  context: CommandContext,
  { to, agent }: { readonly to: string; readonly agent: string | undefined },
): Promise<CommandResult> {
  const folder = resolve(to);
  if (existsSync(folder)) throw new RingfoldError("CONFLICT", `${folder} exists already`, { path: folder });
  const detail = await (await connectApi(context)).version(name, selector);
  const weights = await readWeights(detail, agent ?? join(ringfoldHome(context.io.env), "agent"));
  const unfinished = `${folder}.${process.pid}.new`;
  try {
    await mkdir(unfinished, { recursive: true });
    const { version, digest, manifest, attestation, registration } = detail;
    const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
    await writeFile(join(unfinished, exportedFiles.weights), weights);
    const described = { format: 1, version, digest, manifest } satisfies z.infer<
      typeof exportedVersionSchema
    >;
    await writeFile(join(unfinished, exportedFiles.version), json(described));
    if (attestation) await writeFile(join(unfinished, exportedFiles.attestation), json(attestation));
    if (registration) await writeFile(join(unfinished, exportedFiles.registration), json(registration));
    await rename(unfinished, folder);
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
  const reference = `${detail.name}@${detail.version}`;
  return {
    json: { name: detail.name, version: detail.version, folder, weightsBytes: weights.byteLength },
    text: `${reference} is in ${folder}\nringfold models verify --from ${to}`,
  };
}

async function readWeights(detail: VersionDetail, agentFolder: string): Promise<Uint8Array> {
  const path = join(agentFolder, "artefacts");
  const holders = detail.holders.map(shortPeer).join(", ") || "nobody who is here now";
  const remedy = `Run this on a machine whose agent holds the weights (${holders}), or name its data folder with --agent.`;
  if (!existsSync(path))
    throw new RingfoldError("CONFIG_INVALID", `there is no agent's data in ${agentFolder}`, { remedy });
  const store = openArtefactStore(path);
  try {
    if (store.stat(detail.weightsDigest) === undefined) {
      const message = `the agent of ${agentFolder} does not hold the weights of ${detail.name}@${detail.version}`;
      throw new RingfoldError("ARTEFACT_MISSING", message, { remedy });
    }
    return store.get(detail.weightsDigest);
  } finally {
    await store.close();
  }
}
