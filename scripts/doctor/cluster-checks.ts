import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { type AddressInfo, connect, createServer } from "node:net";
import { hostname, networkInterfaces } from "node:os";
import { join } from "node:path";
import { loadPeerId } from "../../agent/network/identity.ts";
import { release } from "../../agent/release.ts";
import { limits } from "../../protocol/limits.ts";
import type { PeerView } from "../../protocol/messages/api.ts";
import type { ApiClient } from "../commands/api-client.ts";
import type { Endpoint } from "../commands/arguments.ts";
import { formatDuration } from "../commands/present/quantity.ts";
import { type Check, type Finding, fail, info, ok, warn } from "./finding.ts";
import { lookAtNat } from "./nat-check.ts";

/** Certificates and tokens carry times; so far apart two clocks may be before one of them refuses the other's. */
const skewWarnMs = 2_000;
const skewFailMs = 60_000;

/** @param skewMs ours ahead of the coordinator's @param uncertaintyMs half the round trip */
export function judgeClock(skewMs: number, uncertaintyMs: number): Finding {
  const apart = Math.abs(skewMs);
  const detail =
    apart <= uncertaintyMs
      ? `equal to the coordinator's within ${Math.ceil(uncertaintyMs)} ms`
      : `${formatDuration(apart)} ${skewMs > 0 ? "ahead of" : "behind"} the coordinator's`;
  if (apart - uncertaintyMs > skewFailMs) {
    return fail(detail, "Set the clock by NTP (chrony, systemd-timesyncd): certificates are refused.");
  }
  return apart - uncertaintyMs > skewWarnMs
    ? warn(detail, "Set the clock by NTP (chrony, systemd-timesyncd).")
    : ok(detail);
}

export function judgeReleases(own: string, coordinator: string, peers: readonly PeerView[]): Finding {
  const others = new Map<string, string[]>();
  for (const { name, state, release: theirs } of peers) {
    if (["dead", "left", "away"].includes(state) || theirs === own) continue;
    others.set(theirs, [...(others.get(theirs) ?? []), name]);
  }
  if (coordinator !== own) others.set(coordinator, ["the coordinator", ...(others.get(coordinator) ?? [])]);
  if (others.size === 0) return ok(`${own} everywhere`);
  const found = [...others].map(([theirs, names]) => `${theirs} (${names.join(", ")})`);
  const detail = `${own} here, but ${found.join(", ")}`;
  const remedy = "Run one release on all machines.";
  return [...others.keys()].some((theirs) => majorOf(theirs) !== majorOf(own))
    ? fail(detail, remedy)
    : warn(detail, remedy);
}

const majorOf = (version: string): string => version.split(".")[0] ?? "";

/** @param self this machine: the peer id in its data folder, its name and its addresses */
export function judgeIdentity(
  self: { readonly peerId: string; readonly hostname: string; readonly hosts: readonly string[] },
  peers: readonly PeerView[],
): Finding {
  // As the coordinator, which refuses a second life of these.
  const isThere = ({ state }: PeerView) => state === "alive" || state === "draining";
  const namesake = peers.find((peer) => peer.peerId === self.peerId && isThere(peer));
  if (!namesake) return ok("no agent that is alive uses this machine's identity");
  const hosts = namesake.addresses.flatMap((address) => /^\/ip4\/([0-9.]+)\//.exec(address)?.[1] ?? []);
  const isHere =
    namesake.capabilities.hostname === self.hostname && hosts.every((host) => self.hosts.includes(host));
  if (isHere) return ok(`used by ${namesake.name}, which runs on this machine`);
  return fail(
    `${namesake.name} on ${namesake.capabilities.hostname} (${hosts.join(", ")}) has the identity of this machine`,
    "The data folder was copied: delete identity.key on one of the two, and join that one anew.",
  );
}

/** What only the coordinator can tell. All but the first are left out when nobody answers. */
export function clusterChecks(options: ClusterCheckOptions): Check[] {
  const { api, dataPath, listen } = options;
  return [
    {
      name: "coordinator",
      look: async () => ok(`answers at ${api.baseUrl} in ${(await measure(options)).roundTripMs} ms`),
    },
    {
      name: "clock",
      look: async () => {
        const { skewMs, roundTripMs } = await measure(options);
        return judgeClock(skewMs, roundTripMs / 2);
      },
    },
    {
      name: "release",
      look: async () => {
        const { release: theirs, peers } = await api.cluster();
        return judgeReleases(release, theirs, peers);
      },
    },
    {
      name: "identity",
      look: async () => {
        const path = join(dataPath, "identity.key");
        if (!existsSync(path)) return info("none yet: the agent makes one at its first start");
        const self = { peerId: await loadPeerId(path), hostname: hostname(), hosts: ownHosts() };
        return judgeIdentity(self, await api.peers());
      },
    },
    { name: "nat", look: (signal) => lookAtNat(api, signal) },
    { name: "reachable", look: (signal) => lookAtReachability(options, listen, signal) },
    { name: "relay", look: async (signal) => lookAtRelay((await measure(options)).addresses, signal) },
  ];
}

export interface ClusterCheckOptions {
  readonly api: ApiClient;
  readonly signal: AbortSignal;
  readonly dataPath: string;
  readonly listen: Endpoint;
}

const ownHosts = (): string[] => [
  "127.0.0.1",
  ...Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)),
];

/** One question to the coordinator that leads, and when it was asked. */
async function measure({ api }: ClusterCheckOptions) {
  await api.observed(); // so that neither the search for it nor a handshake is measured
  const startedAtMs = Date.now();
  const { nowMs, addresses } = await api.observed();
  const roundTripMs = Date.now() - startedAtMs;
  return { roundTripMs, skewMs: startedAtMs + roundTripMs / 2 - nowMs, addresses };
}

/** The coordinator dials a port that is opened for it, where an agent would listen. */
async function lookAtReachability(
  { api }: ClusterCheckOptions,
  listen: Endpoint,
  signal: AbortSignal,
): Promise<Finding> {
  if (!api.isOperator)
    return info("not tried", "Give --operator-token, and the coordinator dials this machine back.");
  const challenge = randomBytes(24).toString("base64url");
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.end(challenge);
  });
  server.listen(listen.port, listen.host);
  try {
    await once(server, "listening", { signal });
    const { port } = server.address() as AddressInfo;
    const { reached, address, detail } = await api.dialBack({ port, challenge });
    if (reached) return ok(`the coordinator reaches ${address}:${port}`);
    return fail(
      `the coordinator does not reach ${address}:${port}: ${detail}`,
      "Open the port in the firewall (choose it with --listen), or forward it.",
    );
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EADDRINUSE") throw cause;
    return info(
      `${listen.host}:${listen.port} is in use, so nothing could be tried`,
      "Try while the agent is stopped.",
    );
  } finally {
    server.close();
  }
}

/** The coordinator's libp2p node relays for members that cannot be dialled; it must be reached itself. */
async function lookAtRelay(addresses: readonly string[], signal: AbortSignal): Promise<Finding> {
  const endpoints = addresses.flatMap((address) => {
    const [, host, port] = /^\/ip4\/([0-9.]+)\/tcp\/(\d+)/.exec(address) ?? [];
    return host ? [{ host, port: Number(port) }] : [];
  });
  for (const endpoint of endpoints) {
    if (await answers(endpoint, signal))
      return ok(`the coordinator relays at ${endpoint.host}:${endpoint.port}`);
  }
  const tried = endpoints.map(({ host, port }) => `${host}:${port}`).join(", ") || "no address";
  return fail(
    `the coordinator's port for members does not answer: ${tried}`,
    "Open it on the coordinator's machine (--listen).",
  );
}

async function answers({ host, port }: Endpoint, signal: AbortSignal): Promise<boolean> {
  const socket = connect({ host, port, signal });
  const timer = setTimeout(() => socket.destroy(new Error("no answer in time")), limits.dialTimeoutMs);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
