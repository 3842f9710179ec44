import { networkInterfaces } from "node:os";
import { z } from "zod";
import { afterPrefix, type EtcdClient, fromBase64, toBase64 } from "../../coordinator/store/etcd-client.ts";
import type { CoordinatorConfig } from "./run-coordinator.ts";

/** What coordinators over one etcd tell each other of where they are: for agents, and for people who look for the one that leads. */

const anything = z.unknown();
const listSchema = z.object({ kvs: z.array(z.object({ value: z.string() })).default([]) });
const addressesSchema = z.array(z.string());
/** A coordinator that is gone for good stays told: its addresses cost one dial. */
const urlsMax = 16;

/** Where agents can reach this coordinator once it leads, without its peer id: join tokens name all of them. */
export async function tellAddresses(
  client: EtcdClient,
  prefix: string,
  { listen }: CoordinatorConfig,
): Promise<void> {
  const hosts = reachableHosts(listen.host);
  const told = hosts.map((host) => `/ip4/${host}/tcp/${listen.port}`);
  await put(client, `${prefix}address/${hosts.join("+")}:${listen.port}`, JSON.stringify(told));
}

export async function addressesTold(client: EtcdClient, prefix: string): Promise<string[]> {
  const told = await list(client, `${prefix}address/`);
  return told.flatMap((text) => addressesSchema.parse(JSON.parse(text)));
}

/** Where this coordinator answers HTTP. */
export const httpUrl = (host: string, port: number): string =>
  `http://${reachableHosts(host)[0] ?? host}:${port}`;

export const tellUrl = (client: EtcdClient, prefix: string, url: string): Promise<void> =>
  put(client, `${prefix}http/${url}`, url);

export const urlsTold = async (client: EtcdClient, prefix: string): Promise<string[]> =>
  (await list(client, `${prefix}http/`)).slice(0, urlsMax);

/** Where others reach what listens there: of what listens on every address, those of this machine. */
function reachableHosts(host: string): string[] {
  if (host !== "0.0.0.0") return [host];
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  return own.filter(({ family, internal }) => family === "IPv4" && !internal).map(({ address }) => address);
}

async function put(client: EtcdClient, key: string, value: string): Promise<void> {
  await client.call("kv/put", { key: toBase64(key), value: toBase64(value) }, anything);
}

async function list(client: EtcdClient, from: string): Promise<string[]> {
  const range = { key: toBase64(from), range_end: toBase64(afterPrefix(from)) };
  const { kvs } = await client.call("kv/range", range, listSchema);
  return kvs.map(({ value }) => Buffer.from(fromBase64(value)).toString());
}
