import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writePrivateFile } from "../../agent/network/identity.ts";
import { collections } from "../../coordinator/state.ts";
import { campaign } from "../../coordinator/store/etcd-leadership.ts";
import { openEtcdStore, readEtcdState } from "../../coordinator/store/etcd-store.ts";
import { formatKey } from "../../coordinator/store/format.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { inWrites } from "../../coordinator/store/one-write.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Log, StoreWrite } from "../../protocol/ports.ts";
import { appearing, type BackupSummary, checkCopy, copyStore, goOnFromBackup, storePath } from "./backup.ts";
import { connectEtcd, type EtcdLocation } from "./etcd-location.ts";
import { identityPath, tokenPath } from "./shared-secrets.ts";

/** Says to coordinators that what is there is no store yet. */
const unfinished: StoreWrite = { key: formatKey, value: new TextEncoder().encode("restoring") };

/**
 * Copies what coordinators keep in etcd, as of one moment, into a new folder: a backup like that of a coordinator with a
 * folder of its own. They may go on meanwhile.
 * @throws RingfoldError NOT_FOUND | CONFLICT when the folder is there already | STORE_FAILED | STORE_NEWER; the reason of `signal`
 */
export async function backUpEtcd(
  etcd: EtcdLocation,
  to: string,
  signal: AbortSignal,
): Promise<BackupSummary> {
  const values = await readEtcdState(connectEtcd(etcd), etcd.prefix, signal);
  if (values.size === 0)
    throw new RingfoldError("NOT_FOUND", `no coordinator has its data in etcd under ${etcd.prefix}`);
  return appearing(to, async (folder) => {
    const store = await openLmdbStore(storePath(folder));
    try {
      await store.write([...values].map(([key, value]) => ({ key, value })));
      const secrets = collections.shared.read(store, "coordinator");
      if (secrets) {
        await writePrivateFile(identityPath(folder), secrets.identityKey);
        await writePrivateFile(tokenPath(folder), `${secrets.operatorToken}\n`);
      }
    } finally {
      await store.close();
    }
    return checkCopy(storePath(folder));
  });
}

/**
 * Puts a backup, of etcd or of a folder, into etcd under a prefix that is empty. Coordinators that start meanwhile wait: this one
 * leads until all is there.
 * @throws RingfoldError NOT_FOUND | CONFLICT when something is there | STORE_FAILED | STORE_NEWER; the reason of `signal`
 */
export async function restoreToEtcd(
  from: string,
  etcd: EtcdLocation,
  { log, signal }: { readonly log: Log; readonly signal: AbortSignal },
): Promise<Omit<BackupSummary, "folder">> {
  const { prefix } = etcd;
  const client = connectEtcd(etcd);
  const leadership = await campaign(client, { prefix, self: "a restore", signal });
  try {
    if ((await readEtcdState(client, prefix, signal)).size > 0) {
      const remedy = "Give a prefix of its own, etcd://HOSTS/PREFIX, and start the coordinators with it.";
      throw new RingfoldError("CONFLICT", `etcd has data under ${prefix} already`, { prefix, remedy });
    }
    const { summary, writes } = await read(from, log);
    const store = await openEtcdStore(client, { prefix, leadership });
    await store.write([unfinished]);
    for (const portion of inWrites(writes, (write) => write)) await store.write(portion);
    await store.close();
    return summary;
  } finally {
    await leadership.resign();
  }
}

/** What is to be written, its format last: what a restore that was killed has left is refused as no store. */
async function read(from: string, log: Log) {
  const folder = await mkdtemp(join(tmpdir(), "ringfold-restore-"));
  try {
    const summary = await copyStore(from, folder);
    await goOnFromBackup(storePath(folder), log);
    const store = await openLmdbStore(storePath(folder));
    try {
      const writes: StoreWrite[] = [...store.list("")];
      if (!collections.shared.read(store, "coordinator")) {
        const identityKey = new Uint8Array(await readFile(identityPath(from)));
        const operatorToken = (await readFile(tokenPath(from), "utf8")).trim();
        writes.push(collections.shared.put("coordinator", { identityKey, operatorToken }));
      }
      writes.sort((one, other) => Number(one.key === formatKey) - Number(other.key === formatKey));
      return { summary, writes };
    } finally {
      await store.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
