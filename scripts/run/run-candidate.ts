import { networkInterfaces } from "node:os";
import { Hono } from "hono";
import { z } from "zod";
import { refuse } from "../../coordinator/api/refusal.ts";
import {
  afterPrefix,
  createEtcdClient,
  type EtcdClient,
  fromBase64,
  toBase64,
} from "../../coordinator/store/etcd-client.ts";
import { campaign, type Leadership } from "../../coordinator/store/etcd-leadership.ts";
import { openEtcdStore } from "../../coordinator/store/etcd-store.ts";
import { leadInTurns } from "../../coordinator/store/turns.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Log } from "../../protocol/ports.ts";
import { listenHttp } from "./http-listener.ts";
import { assembleCoordinator, type CoordinatorConfig, type RunningCoordinator } from "./run-coordinator.ts";
import { shareSecrets } from "./shared-secrets.ts";

export interface EtcdLocation {
  readonly endpoints: readonly string[];
  /** Before every key, with a slash at its end. */
  readonly prefix: string;
}

export interface CandidateListeners {
  readonly onLeading: (running: RunningCoordinator) => void;
  /** @param leader HTTP address of who leads */
  readonly onStandby: (leader: string) => void;
}

/**
 * One of several coordinators over etcd, until `signal` aborts: waits while another leads, leads when its turn comes, and
 * waits again when it has lost its lease.
 * @throws RingfoldError PORT_IN_USE | STORE_FAILED | STORE_NEWER | CONFIG_INVALID
 */
export async function runCandidate(
  config: CoordinatorConfig,
  etcd: EtcdLocation,
  { log, signal, ...listeners }: { readonly log: Log; readonly signal: AbortSignal } & CandidateListeners,
): Promise<void> {
  const client = createEtcdClient(etcd.endpoints);
  await tellAddresses(client, etcd.prefix, config);
  await leadInTurns({
    signal,
    standBy: () => standBy(client, { config, prefix: etcd.prefix, signal, ...listeners }),
    open: async (leadership) => {
      const running = await assembleCoordinator(config, log, {
        openStore: async () => {
          const store = await openEtcdStore(client, { prefix: etcd.prefix, leadership });
          await shareSecrets(store, config.dataPath);
          return store;
        },
        otherAddresses: () => addressesTold(client, etcd.prefix),
      });
      listeners.onLeading(running);
      return running;
    },
    onDeposed: () => log.warn({}, "Another coordinator leads, or etcd is out of reach; this one stands by"),
  });
}

/** Meanwhile whoever asks over HTTP is told who leads. Undefined when `signal` has aborted. */
async function standBy(
  client: EtcdClient,
  {
    config,
    prefix,
    signal,
    onStandby,
  }: { readonly config: CoordinatorConfig; readonly prefix: string; readonly signal: AbortSignal } & Pick<
    CandidateListeners,
    "onStandby"
  >,
): Promise<Leadership | undefined> {
  let leader = "";
  const listener = await listenHttp(
    standbyApi(() => leader),
    config.http,
  );
  const [host = config.http.host] = reachableHosts(config.http.host);
  const self = `http://${host}:${listener.port}`;
  try {
    return await campaign(client, {
      ...{ prefix, self, signal },
      onStandby: (told) => {
        leader = told;
        onStandby(told);
      },
    });
  } catch (cause) {
    if (signal.aborted) return undefined;
    throw cause;
  } finally {
    await listener.close();
  }
}

function standbyApi(leader: () => string): Hono {
  const app = new Hono();
  app.get("/healthz", (c) => c.json({ live: true }));
  app.get("/readyz", (c) => c.json({ ready: false, standby: true, leader: leader() }, 503));
  app.all("*", () => {
    const error = new RingfoldError("COORDINATOR_STANDBY", `this coordinator stands by; ${leader()} leads`, {
      leader: leader(),
      remedy: `Ask the one that leads: --coordinator ${leader()}`,
    });
    return refuse(error);
  });
  return app;
}

const anything = z.unknown();
const listSchema = z.object({ kvs: z.array(z.object({ value: z.string() })).default([]) });
const addressesSchema = z.array(z.string());

/** Where agents can reach this coordinator once it leads, without its peer id: join tokens name all of them. */
async function tellAddresses(
  client: EtcdClient,
  prefix: string,
  { listen }: CoordinatorConfig,
): Promise<void> {
  const hosts = reachableHosts(listen.host);
  const told = hosts.map((host) => `/ip4/${host}/tcp/${listen.port}`);
  const key = `${prefix}address/${hosts.join("+")}:${listen.port}`;
  await client.call("kv/put", { key: toBase64(key), value: toBase64(JSON.stringify(told)) }, anything);
}

/** Where others reach what listens there: of what listens on every address, those of this machine. */
function reachableHosts(host: string): string[] {
  if (host !== "0.0.0.0") return [host];
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  return own.filter(({ family, internal }) => family === "IPv4" && !internal).map(({ address }) => address);
}

async function addressesTold(client: EtcdClient, prefix: string): Promise<string[]> {
  const from = `${prefix}address/`;
  const range = { key: toBase64(from), range_end: toBase64(afterPrefix(from)) };
  const { kvs } = await client.call("kv/range", range, listSchema);
  return kvs.flatMap(({ value }) =>
    addressesSchema.parse(JSON.parse(Buffer.from(fromBase64(value)).toString())),
  );
}
