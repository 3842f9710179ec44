import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import type { EtcdAccess } from "../../coordinator/store/etcd-http.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { EtcdLocation } from "../run/etcd-location.ts";
import { etcdLocation } from "./arguments.ts";

/** As commander names them. A password is never an option: every user of a machine reads the command lines of all processes. */
export interface EtcdOptions {
  readonly store?: EtcdLocation;
  readonly etcdUser?: string;
  readonly etcdPasswordFile?: string;
  readonly etcdCa?: string;
  readonly etcdCert?: string;
  readonly etcdKey?: string;
}

/** @param purpose of `--store`, for its help */
export const addEtcdOptions = (command: Command, purpose: string): Command =>
  command
    .option("--store <url>", `etcd://host:port,host:port[/prefix]${purpose}`, etcdLocation)
    .option("--etcd-user <name>", "user of etcd (env RINGFOLD_ETCD_USER)")
    .option(
      "--etcd-password-file <file>",
      "its password (env RINGFOLD_ETCD_PASSWORD_FILE, or RINGFOLD_ETCD_PASSWORD itself)",
    )
    .option("--etcd-ca <file>", "authority of etcd's certificates, PEM (env RINGFOLD_ETCD_CA)")
    .option("--etcd-cert <file>", "certificate that etcd wants of us, PEM (env RINGFOLD_ETCD_CERT)")
    .option("--etcd-key <file>", "its key, PEM (env RINGFOLD_ETCD_KEY)");

/**
 * Where the store is and what is shown there; undefined for a folder.
 * @throws RingfoldError CONFIG_INVALID when half of something is given, or a file cannot be read
 */
export async function locateEtcd(
  { store, ...options }: EtcdOptions,
  env: NodeJS.ProcessEnv,
): Promise<EtcdLocation | undefined> {
  if (!store) return undefined;
  const name = options.etcdUser ?? env.RINGFOLD_ETCD_USER;
  const passwordFile = options.etcdPasswordFile ?? env.RINGFOLD_ETCD_PASSWORD_FILE;
  const password = passwordFile === undefined ? env.RINGFOLD_ETCD_PASSWORD : await read(passwordFile);
  const authority = await readIfGiven(options.etcdCa ?? env.RINGFOLD_ETCD_CA);
  const certificate = await readIfGiven(options.etcdCert ?? env.RINGFOLD_ETCD_CERT);
  const key = await readIfGiven(options.etcdKey ?? env.RINGFOLD_ETCD_KEY);
  assertPair("--etcd-user", name, "--etcd-password-file", password);
  assertPair("--etcd-cert", certificate, "--etcd-key", key);
  const access: EtcdAccess = {
    ...(name !== undefined && password !== undefined && { user: { name, password: password.trimEnd() } }),
    ...(authority !== undefined && { authority }),
    ...(certificate !== undefined && key !== undefined && { certificate: { certificate, key } }),
  };
  return { ...store, access };
}

function assertPair(one: string, first: unknown, other: string, second: unknown): void {
  if ((first === undefined) === (second === undefined)) return;
  const [given, missing] = first === undefined ? [other, one] : [one, other];
  throw new RingfoldError("CONFIG_INVALID", `${given} is given, and ${missing} is not`, {
    remedy: `Give ${missing} too.`,
  });
}

const readIfGiven = (path: string | undefined): Promise<string | undefined> =>
  path === undefined ? Promise.resolve(undefined) : read(path);

const read = (path: string): Promise<string> =>
  readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new RingfoldError("CONFIG_INVALID", `cannot read ${path}: ${cause.message}`, { path }, { cause });
  });
