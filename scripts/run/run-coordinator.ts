import { join } from "node:path";
import { loadIdentity } from "../../agent/network/identity.ts";
import { openNetwork } from "../../agent/network/network.ts";
import { createSwarmKey } from "../../agent/network/swarm-key.ts";
import { release } from "../../agent/release.ts";
import { createApi } from "../../coordinator/api/app.ts";
import { openCoordinator } from "../../coordinator/coordinator.ts";
import { loadCredentials } from "../../coordinator/credentials.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { type Log, type Store, systemClock } from "../../protocol/ports.ts";
import { serveDashboard } from "./dashboard-files.ts";
import { lockFolder } from "./folder-lock.ts";
import { listenHttp } from "./http-listener.ts";
import { identityPath, loadOperatorToken } from "./shared-secrets.ts";

export interface CoordinatorConfig {
  readonly dataPath: string;
  /** Used when the cluster is made; later the store knows it. */
  readonly clusterName: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly http: { readonly host: string; readonly port: number };
  /** Entries of the log of decisions that stay word for word; `limits.decisionsKept` unless told. */
  readonly decisionsKept?: number | undefined;
  /** Agents that hold each data set and version; `limits.replicas` unless told. */
  readonly replicaCount?: number | undefined;
}

export interface RunningCoordinator {
  readonly clusterName: string;
  readonly peerId: string;
  readonly httpUrl: string;
  readonly addresses: readonly string[];
  readonly operatorToken: string;
  /** For workers, good for a day. */
  readonly joinToken: string;
  close(): Promise<void>;
}

/**
 * Assembles a coordinator with its store, network, HTTP API and dashboard, in order; closes in reverse.
 * @throws RingfoldError CONFLICT when another one works on the folder | PORT_IN_USE | STORE_FAILED | STORE_NEWER | CONFIG_INVALID
 */
export const runCoordinator = (config: CoordinatorConfig, log: Log): Promise<RunningCoordinator> =>
  assembleCoordinator(config, log, { openStore: () => openLmdbStore(join(config.dataPath, "store")) });

/** Good for a day. */
const firstToken = { role: "worker", expiresInSeconds: 86_400, addresses: true } as const;

/** The same over any store. @throws RingfoldError as runCoordinator, and of the store */
export async function assembleCoordinator(
  config: CoordinatorConfig,
  log: Log,
  surroundings: {
    readonly openStore: () => Promise<Store>;
    /** Multiaddrs, without a peer id, of coordinators that may lead after this one. */
    readonly otherAddresses?: () => Promise<string[]>;
    /** HTTP addresses of all coordinators that are known. */
    readonly coordinatorUrls?: () => readonly string[];
  },
): Promise<RunningCoordinator> {
  const undo: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const lock = await lockFolder(config.dataPath);
    undo.push(() => lock.release());
    const store = await surroundings.openStore();
    undo.push(() => store.close());
    const credentials = await loadCredentials(store, { clusterName: config.clusterName, createSwarmKey });
    const { clusterName } = credentials.authority;
    const network = await openNetwork({
      privateKey: await loadIdentity(identityPath(config.dataPath)),
      swarmKey: credentials.swarmKey,
      listen: config.listen,
      relay: true,
      log,
    });
    undo.push(() => network.close());
    const coordinator = await openCoordinator({
      network,
      store,
      credentials,
      clock: systemClock,
      log,
      release,
      ...(surroundings.otherAddresses && { otherAddresses: surroundings.otherAddresses }),
      ...(config.decisionsKept && { decisionLog: { kept: config.decisionsKept } }),
      ...(config.replicaCount && { replicaCount: config.replicaCount }),
    });
    undo.push(() => coordinator.close());

    const operatorToken = await loadOperatorToken(config.dataPath);
    const { coordinatorUrls = () => [] } = surroundings;
    const { addresses } = network;
    const app = createApi({ coordinator, operatorToken, addresses, coordinatorUrls, log });
    serveDashboard(app);
    const listener = await listenHttp(app, config.http);
    undo.push(() => listener.close());
    return {
      clusterName,
      peerId: network.peerId,
      httpUrl: `http://${config.http.host}:${listener.port}`,
      addresses: network.addresses(),
      operatorToken,
      joinToken: (await coordinator.createToken(firstToken, undefined, { kind: "coordinator" })).token,
      close,
    };
  } catch (cause) {
    await close();
    throw cause;
  }
}
