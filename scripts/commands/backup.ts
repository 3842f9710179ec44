import { join, resolve } from "node:path";
import type { Command } from "commander";
import type { BackupSummary } from "../run/backup.ts";
import { type CommandIo, ringfoldHome, runCommand } from "./command.ts";
import { addEtcdOptions, type EtcdOptions, locateEtcd } from "./etcd-options.ts";

interface BackupOptions extends EtcdOptions {
  readonly data?: string;
  readonly to: string;
}
interface RestoreOptions extends EtcdOptions {
  readonly data?: string;
  readonly from: string;
  readonly force: boolean;
}

export function register(program: Command, io: CommandIo): void {
  const dataPath = (data: string | undefined) => resolve(data ?? join(ringfoldHome(io.env), "coordinator"));

  const backup = program
    .command("backup")
    .description("copy a coordinator's data on this machine, also while it runs")
    .option("--data <folder>", "where its state lives; ~/.ringfold/coordinator unless told")
    .requiredOption("--to <folder>", "a new folder for the copy");
  addEtcdOptions(backup, ": what several coordinators keep there").action(
    (_options: unknown, command: Command) =>
      runCommand<BackupOptions>(command, io, async ({ signal }, { data, to, ...etcd }) => {
        const store = await locateEtcd(etcd, io.env);
        const { backUp } = await import("../run/backup.ts");
        const { backUpEtcd } = await import("../run/etcd-backup.ts");
        const summary = store
          ? await backUpEtcd(store, resolve(to), signal)
          : await backUp(dataPath(data), resolve(to));
        return { json: summary, text: `${describe(summary)} in ${summary.folder}` };
      }),
  );

  const restoring = program
    .command("restore")
    .description("put a backup in the place of a coordinator's data; end the coordinator first")
    .option("--data <folder>", "where its state lives; ~/.ringfold/coordinator unless told")
    .requiredOption("--from <folder>", "what `ringfold backup` made")
    .option("--force", "also where data is already; that is moved aside", false);
  addEtcdOptions(restoring, ": there instead, under an empty prefix").action(
    (_options: unknown, command: Command) =>
      runCommand<RestoreOptions>(command, io, async ({ signal }, { data, from, force, ...etcd }) => {
        const store = await locateEtcd(etcd, io.env);
        const { restore } = await import("../run/backup.ts");
        const { restoreToEtcd } = await import("../run/etcd-backup.ts");
        const { createLog } = await import("../run/logger.ts");
        const log = createLog("restore", io.env.RINGFOLD_LOG ?? "warn");
        if (store) {
          const summary = await restoreToEtcd(resolve(from), store, { log, signal });
          return { json: summary, text: `${describe(summary)} in etcd under ${store.prefix}` };
        }
        const restored = await restore(resolve(from), dataPath(data), { force, nowMs: Date.now(), log });
        const aside = restored.before ? `; what was there is in ${restored.before}` : "";
        return { json: restored, text: `${describe(restored)} in ${restored.folder}${aside}` };
      }),
  );
}

const describe = ({ jobs, versions, deployments, members }: Omit<BackupSummary, "folder">): string =>
  `${jobs} jobs, ${versions} versions, ${deployments} deployments, ${members} members`;
