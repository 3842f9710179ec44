import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { z } from "zod";
import { routeUrl } from "../../protocol/api/client.ts";
import { parseJson, resolveUrl } from "../../protocol/http.ts";
import { limits } from "../../protocol/limits.ts";
import type { PeerView } from "../../protocol/messages/api.ts";
import type { ApiClient } from "../commands/api-client.ts";
import type { Endpoint } from "../commands/arguments.ts";
import { type Finding, ok, warn } from "./finding.ts";

/** How one machine sees a port of this one. */
export interface Sighting {
  /** Whose. */
  readonly by: string;
  readonly seen: Endpoint;
}

/** So many agents are asked beside the coordinator. */
const agentsMax = 3;
const seenSchema = z.object({ address: z.string().max(64), port: z.number().int() });

/**
 * What stands between this machine and the others, by how several of them see one port of it. Who maps it alike for all can be
 * reached by hole punching; who maps it anew for each cannot.
 * Source: RFC 5780, section 4.3; RFC 4787, section 4.1.
 */
export function judgeNat(local: Endpoint, sightings: readonly [Sighting, ...Sighting[]]): Finding {
  const [{ seen: first }] = sightings;
  const isSame = (one: Endpoint, other: Endpoint) => one.host === other.host && one.port === other.port;
  if (sightings.every(({ seen }) => isSame(seen, local)))
    return ok(`none: the coordinator sees ${first.host}, which is this machine's own address`);
  const told = sightings.map(({ by, seen }) => `${seen.host}:${seen.port} by ${by}`).join(", ");
  if (sightings.length === 1) {
    const ports = local.port === first.port ? "keeps ports" : "changes ports";
    return warn(
      `an address translation that ${ports}: ${local.host} is seen as ${first.host}; of which kind takes an agent that this machine reaches`,
      "Forward the port that --listen names, or let another machine be the one that is dialled. Its kind is told once an agent elsewhere runs with --gateway 0.0.0.0:7080.",
    );
  }
  if (sightings.every(({ seen }) => isSame(seen, first)))
    return warn(
      `an address translation with endpoint-independent mapping (a cone): ${local.host}:${local.port} is seen as ${told}`,
      "Members behind it come together by hole punching; to be dialled, forward the port that --listen names.",
    );
  return warn(
    `an address translation with address-dependent, or address- and port-dependent, mapping (symmetric): ${local.host}:${local.port} is seen as ${told}`,
    "Hole punching does not work through it: forward the port that --listen names, or let the other machines be dialled; until then the coordinator relays.",
  );
}

/** Asks the coordinator and some agents how they see the same port of this machine. */
export async function lookAtNat(api: ApiClient, signal: AbortSignal): Promise<Finding> {
  await api.observed(); // of several coordinators, the one that leads is asked
  const port = await freePort();
  // Kept open until all have answered: a translation may forget what is closed.
  const connections = new Agent({ keepAlive: true });
  const ask = (by: string, url: URL) => askFrom(port, { by, url, agent: connections, signal });
  try {
    const coordinator = await ask("the coordinator", routeUrl(api.baseUrl, "observed", {}));
    const gateways = observers(await api.peers(), new URL(api.baseUrl).hostname, coordinator.local.host);
    const others = await Promise.all(
      gateways.map(({ name, url }) => ask(name, resolveUrl(url, "observed")).catch(() => undefined)),
    );
    const sightings = others.flatMap((other) => (other ? [other.sighting] : []));
    return judgeNat(coordinator.local, [coordinator.sighting, ...sightings]);
  } finally {
    connections.destroy();
  }
}

/** Agents on other machines than the coordinator's and this one: only another address tells of the mapping. */
function observers(
  peers: readonly PeerView[],
  ...taken: readonly string[]
): { readonly name: string; readonly url: string }[] {
  const hosts = new Set(taken);
  return peers
    .flatMap(({ name, state, gatewayUrl }) => {
      if (state !== "alive" || gatewayUrl === null || !URL.canParse(gatewayUrl)) return [];
      const { hostname } = new URL(gatewayUrl);
      if (hosts.has(hostname) || hostname.startsWith("127.")) return [];
      hosts.add(hostname);
      return [{ name, url: gatewayUrl }];
    })
    .slice(0, agentsMax);
}

/** A port of this machine that several connections may begin at. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "0.0.0.0");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function askFrom(
  localPort: number,
  options: { readonly by: string; readonly url: URL; readonly agent: Agent; readonly signal: AbortSignal },
): Promise<{ readonly local: Endpoint; readonly sighting: Sighting }> {
  const { by, url, agent } = options;
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(limits.dialTimeoutMs)]);
  const request = get(url, { agent, localPort, family: 4, signal });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const { localAddress = "", localPort: port = 0 } = response.socket;
  let text = "";
  for await (const piece of response.setEncoding("utf8") as AsyncIterable<string>) {
    text += piece;
    if (text.length > limits.controlMessageBytes) throw new Error("the answer is too long");
  }
  const seen = seenSchema.parse(parseJson(text));
  return {
    local: { host: localAddress, port },
    sighting: { by, seen: { host: seen.address, port: seen.port } },
  };
}
