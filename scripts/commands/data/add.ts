import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { hostname, userInfo } from "node:os";
import { join, resolve } from "node:path";
import { type ArtefactStore, openArtefactStore, sha256 } from "../../../agent/artefact/store.ts";
import { prepareDataset } from "../../../agent/data/preparation/preparation.ts";
import { markPreparation } from "../../../agent/data/preparation/preparation-mark.ts";
import { loadIdentity, signerOf } from "../../../agent/network/identity.ts";
import { attest, canonicalDigest, type Signer } from "../../../protocol/attestation.ts";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { DatasetDetail } from "../../../protocol/messages/dataset.ts";
import { type Preparation, preparationSchema } from "../../../protocol/preparation.ts";
import { datasetStatement } from "../../../protocol/provenance.ts";
import { nameOfFile } from "../../file-name.ts";
import { readPreparationFile, withTarget } from "../../preparation-file.ts";
import { registeredDocument } from "../../registered-document.ts";
import { type ApiClient, connectApi } from "../api-client.ts";
import { type CommandContext, type CommandResult, ringfoldHome } from "../command.ts";
import { datasetText } from "../present/dataset-text.ts";
import { createPreparationProgress } from "./preparation-progress.ts";

export interface AddOptions {
  readonly name?: string;
  readonly pipeline?: string;
  readonly target?: string;
  readonly agent?: string;
}

/**
 * Prepares a source in this process, writes its chunks into the store of the agent on this machine, and registers the data
 * set: the agent holds it from then on, and the coordinator brings it to another one. Nothing is registered before all is
 * durable. Chunks that an interrupted run has written are found again by the next one; the agent frees them where none comes for a day.
 *
 * @throws RingfoldError FILE_NOT_FOUND | DATA_INVALID | STORE_FAILED | CONFIG_INVALID | CANCELLED, and those of the API
 */
export async function addDataset(
  source: string,
  context: CommandContext,
  options: AddOptions,
): Promise<CommandResult> {
  const path = resolve(source);
  const api = await connectApi(context);
  const { preparation, pipeline } = await preparationOf(path, options, api);
  const name = options.name ?? nameOfFile(path, "a data set");
  await api.datasets(); // a coordinator that cannot be reached is known before the work, not after it
  const folder = agentFolder(context, options.agent);
  const store = openArtefactStore(join(folder, "artefacts"));
  const progress = createPreparationProgress(context);
  const mark = await markPreparation(folder);
  const added: string[] = [];
  let found = 0;
  let isDescribed = false;
  try {
    const put = async (bytes: Uint8Array): Promise<string> => {
      if (store.stat(sha256(bytes)) === undefined) added.push(sha256(bytes));
      else found++;
      return store.put(bytes, { listed: false });
    };
    const { manifest, bytes } = await prepareDataset(path, preparation, put, progress);
    if (bytes.byteLength > limits.datasetManifestBytes) throw manifestTooLarge(bytes.byteLength);
    progress.close();
    if (found > 0) context.note(`${found} of ${found + added.length} chunks were here already`);
    refuseFreed([...manifest.train.chunks, ...manifest.test.chunks], store);
    await mark.describes(sha256(bytes));
    isDescribed = true;
    const digest = await store.put(bytes);
    const addedBy = `${userInfo().username} on ${hostname()}`;
    const signer = await agentSigner(folder);
    const attestation = signer && (await attest(datasetStatement(name, manifest, digest), signer));
    const detail = await api.addDataset({
      ...{ name, manifest, digest, addedBy, ...(pipeline !== undefined && { pipeline }) },
      ...(attestation && { attestation }),
    });
    await mark.remove();
    return { json: detail, text: `${datasetText(detail)}\n\n${nextStep(detail)}` };
  } catch (cause) {
    // A source that cannot become a data set leaves nothing behind; an interrupted one goes on where it was, and so does one
    // of which we cannot know whether it is registered: the agent asks in a day.
    if (!context.signal.aborted && !isDescribed) {
      for (const digest of added) await store.remove(digest);
      await mark.remove();
    } else if (added.length > 0)
      context.note(`interrupted: the same command goes on after ${added.length} chunks`);
    throw cause;
  } finally {
    mark.leave();
    progress.close();
    await store.close();
  }
}

/** How a source is prepared, and the registered pipeline that says so, where one was named. */
async function preparationOf(
  path: string,
  { pipeline, target }: AddOptions,
  api: ApiClient,
): Promise<{ readonly preparation: Preparation; readonly pipeline?: string }> {
  if (pipeline === undefined) return { preparation: await defaultPreparation(path, target) };
  const kind = { schema: preparationSchema, code: "DATA_INVALID" } as const;
  const registered = await registeredDocument(pipeline, "pipeline", kind, async () => api);
  if (!registered) return { preparation: await readPreparationFile(pipeline, target) };
  const preparation = preparationSchema.parse(withTarget(registered.value, target));
  // With another target it is another pipeline, which is registered under the name of the data set.
  const isSame = canonicalDigest(preparation) === canonicalDigest(registered.value);
  return { preparation, ...(isSame && { pipeline: registered.reference }) };
}

async function defaultPreparation(path: string, target: string | undefined): Promise<Preparation> {
  const isFolder = await stat(path).then(
    (facts) => facts.isDirectory(),
    (cause: unknown) => {
      throw toRingfoldError(cause, "FILE_NOT_FOUND");
    },
  );
  if (isFolder) return preparationSchema.parse({ kind: "images" });
  if (/\.txt$/i.test(path)) return preparationSchema.parse({ kind: "text" });
  if (target !== undefined) return preparationSchema.parse({ kind: "table", target: { column: target } });
  throw new RingfoldError("USAGE", "a table needs a target: give --target COLUMN, or a pipeline with one");
}

function agentFolder({ io }: CommandContext, agent: string | undefined): string {
  const folder = agent ?? join(ringfoldHome(io.env), "agent");
  if (existsSync(join(folder, "artefacts"))) return folder;
  throw new RingfoldError("CONFIG_INVALID", `there is no agent's data in ${folder}`, {
    path: folder,
    remedy:
      "Run this on a machine with an agent (`ringfold up` or `ringfold agent`), or name its data folder with --agent.",
  });
}

/** A preparation that stood still for more than a day counts as dead, and its chunks may be gone. */
function refuseFreed(chunks: readonly string[], store: ArtefactStore): void {
  const freed = chunks.filter((digest) => store.stat(digest) === undefined).length;
  if (freed === 0) return;
  throw new RingfoldError("STORE_FAILED", `${freed} chunks were freed while the others were written`, {
    remedy: "Run the same command again: it goes on with the chunks that are here.",
  });
}

/** The agent whose store it is vouches for what was prepared there. Undefined where the folder never was an agent's. */
async function agentSigner(folder: string): Promise<Signer | undefined> {
  const path = join(folder, "identity.key");
  return existsSync(path) ? signerOf(await loadIdentity(path)) : undefined;
}

const manifestTooLarge = (bytes: number): RingfoldError =>
  new RingfoldError(
    "DATA_INVALID",
    `the description of the data set is ${bytes} bytes, at most ${limits.datasetManifestBytes}`,
    {
      remedy: "Lower vocabularyMax or valuesMax in the pipeline, or add the data in parts.",
    },
  );

const nextStep = ({ name, version }: DatasetDetail): string =>
  `train on it with\n  data:\n    source: dataset\n    name: ${name}@${version}`;
