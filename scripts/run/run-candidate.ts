import { repeat } from "../../coordinator/pacing.ts";
import type { EtcdClient } from "../../coordinator/store/etcd-client.ts";
import { campaign, type Leadership } from "../../coordinator/store/etcd-leadership.ts";
import { openEtcdStore } from "../../coordinator/store/etcd-store.ts";
import { leadInTurns } from "../../coordinator/store/turns.ts";
import { type Log, systemClock } from "../../protocol/ports.ts";
import { connectEtcd, type EtcdLocation } from "./etcd-location.ts";
import { listenHttp } from "./http-listener.ts";
import { assembleCoordinator, type CoordinatorConfig, type RunningCoordinator } from "./run-coordinator.ts";
import { shareSecrets } from "./shared-secrets.ts";
import { standbyApi } from "./standby-api.ts";
import { addressesTold, httpUrl, tellAddresses, tellUrl, urlsTold } from "./told-addresses.ts";

/** A coordinator that is new stands in pages that are loaded after so long. */
const urlsReadEveryMs = 10_000;

export interface CandidateListeners {
  readonly onLeading: (running: RunningCoordinator) => void;
  /** @param leader HTTP address of who leads */
  readonly onStandby: (leader: string) => void;
}

/**
 * One of several coordinators over etcd, until `signal` aborts: waits while another leads, leads when its turn comes, and
 * waits again when it has lost its lease.
 * @throws RingfoldError PORT_IN_USE | STORE_FAILED | STORE_DENIED | STORE_NEWER | CONFIG_INVALID
 */
export async function runCandidate(
  config: CoordinatorConfig,
  etcd: EtcdLocation,
  { log, signal, ...listeners }: { readonly log: Log; readonly signal: AbortSignal } & CandidateListeners,
): Promise<void> {
  const client = connectEtcd(etcd);
  await tellAddresses(client, etcd.prefix, config);
  let urls: readonly string[] = [];
  const readUrls = async () => {
    urls = await urlsTold(client, etcd.prefix).catch(() => urls); // there is a next time
  };
  const stopReading = repeat(systemClock, urlsReadEveryMs, readUrls);
  const coordinatorUrls = () => urls;
  try {
    await leadInTurns({
      signal,
      standBy: async () => {
        const standing = { config, prefix: etcd.prefix, signal, coordinatorUrls, readUrls, ...listeners };
        return standBy(client, standing);
      },
      open: async (leadership) => {
        const running = await assembleCoordinator(config, log, {
          openStore: async () => {
            const store = await openEtcdStore(client, { prefix: etcd.prefix, leadership });
            await shareSecrets(store, config.dataPath);
            return store;
          },
          otherAddresses: () => addressesTold(client, etcd.prefix),
          coordinatorUrls,
        });
        listeners.onLeading(running);
        return running;
      },
      onDeposed: () => log.warn({}, "Another coordinator leads, or etcd is out of reach; this one stands by"),
    });
  } finally {
    stopReading();
  }
}

/** Meanwhile whoever asks over HTTP is told who leads. Undefined when `signal` has aborted. */
async function standBy(
  client: EtcdClient,
  {
    config,
    prefix,
    signal,
    ...rest
  }: {
    readonly config: CoordinatorConfig;
    readonly prefix: string;
    readonly signal: AbortSignal;
    readonly coordinatorUrls: () => readonly string[];
    readonly readUrls: () => Promise<void>;
  } & Pick<CandidateListeners, "onStandby">,
): Promise<Leadership | undefined> {
  let leader = "";
  const { coordinatorUrls } = rest;
  const listener = await listenHttp(standbyApi({ leader: () => leader, coordinatorUrls }), config.http);
  const self = httpUrl(config.http.host, listener.port);
  try {
    await tellUrl(client, prefix, self).then(rest.readUrls, () => {}); // without it pages find one coordinator less
    return await campaign(client, {
      ...{ prefix, self, signal },
      onStandby: (told) => {
        leader = told;
        rest.onStandby(told);
      },
    });
  } catch (cause) {
    if (signal.aborted) return undefined;
    throw cause;
  } finally {
    await listener.close();
  }
}
