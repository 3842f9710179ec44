import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { serveStatic } from "@hono/node-server/serve-static";
import type { Hono } from "hono";
import { loadIdentity, writePrivateFile } from "../../agent/network/identity.ts";
import { openNetwork } from "../../agent/network/network.ts";
import { createSwarmKey } from "../../agent/network/swarm-key.ts";
import { release } from "../../agent/release.ts";
import { createApi } from "../../coordinator/api/app.ts";
import { openCoordinator } from "../../coordinator/coordinator.ts";
import { loadCredentials } from "../../coordinator/credentials.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { type Log, systemClock } from "../../protocol/ports.ts";
import { listenHttp } from "./http-listener.ts";

export interface CoordinatorConfig {
  readonly dataPath: string;
  /** Used when the cluster is made; later the store knows it. */
  readonly clusterName: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly http: { readonly host: string; readonly port: number };
  /** Entries of the log of decisions that stay word for word; `limits.decisionsKept` unless told. */
  readonly decisionsKept?: number | undefined;
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
 * @throws RingfoldError PORT_IN_USE | STORE_FAILED | STORE_NEWER | CONFIG_INVALID
 */
export async function runCoordinator(config: CoordinatorConfig, log: Log): Promise<RunningCoordinator> {
  const undo: (() => Promise<void>)[] = [];
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const store = await openLmdbStore(join(config.dataPath, "store"));
    undo.push(() => store.close());
    const credentials = await loadCredentials(store, { clusterName: config.clusterName, createSwarmKey });
    const { clusterName } = credentials.authority;
    const network = await openNetwork({
      privateKey: await loadIdentity(join(config.dataPath, "identity.key")),
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
      ...(config.decisionsKept && { decisionLog: { kept: config.decisionsKept } }),
    });
    undo.push(() => coordinator.close());

    const operatorToken = await loadOperatorToken(join(config.dataPath, "operator-token"));
    const app = createApi({ coordinator, operatorToken, addresses: network.addresses, log });
    serveDashboard(app);
    const listener = await listenHttp(app, config.http);
    undo.push(() => listener.close());
    return {
      clusterName,
      peerId: network.peerId,
      httpUrl: `http://${config.http.host}:${listener.port}`,
      addresses: network.addresses(),
      operatorToken,
      joinToken: await coordinator.createToken({ role: "worker", expiresInSeconds: 86_400, addresses: true }),
      close,
    };
  } catch (cause) {
    await close();
    throw cause;
  }
}

/** A secret in a file that only this user reads: whoever can read it may steer the cluster. */
async function loadOperatorToken(path: string): Promise<string> {
  const stored = await readFile(path, "utf8").catch(() => "");
  if (stored.trim().length >= 32) return stored.trim();
  const token = randomBytes(32).toString("base64url");
  await writePrivateFile(path, `${token}\n`);
  return token;
}

function serveDashboard(app: Hono): void {
  const root = fileURLToPath(new URL("../../dashboard/dist", import.meta.url));
  if (existsSync(join(root, "index.html"))) app.use("/*", serveStatic({ root }));
  else
    app.get("/", (c) =>
      c.text("The dashboard is not built yet: run `npm run build:dashboard` and reload.\n", 503),
    );
}
