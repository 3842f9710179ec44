import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";
import { networkInterfaces } from "node:os";
import multicastDns from "multicast-dns";
import type { Endpoint } from "../commands/arguments.ts";
import { type Check, type Finding, fail, info, ok, warn } from "./finding.ts";

/** A question crosses a switch in microseconds; a machine that is busy may take a while to read it. */
const multicastWaitMs = 1_500;

interface Address {
  readonly link: string;
  readonly family: "IPv4" | "IPv6";
  readonly address: string;
}

/** Of this machine, as other machines see it: no loopback, and nothing that only works on one link. */
function ownAddresses(): Address[] {
  return Object.entries(networkInterfaces()).flatMap(([link, all]) =>
    (all ?? [])
      .filter(({ internal, address }) => !internal && !address.startsWith("fe80:"))
      .map(({ family, address }) => ({ link, family, address })),
  );
}

export function judgeAddresses(addresses: readonly Address[]): Finding[] {
  const of = (family: Address["family"]) => addresses.filter((each) => each.family === family);
  const list = (found: readonly Address[]) =>
    found.map(({ address, link }) => `${address} on ${link}`).join(", ");
  const [v4, v6] = [of("IPv4"), of("IPv6")];
  const remedy = "Give a network interface an IPv4 address: members listen and dial on IPv4.";
  const judged =
    v6.length > 0 ? fail("only IPv6 addresses", remedy) : warn("no address but loopback", remedy);
  return [
    v4.length > 0 ? ok(list(v4)) : judged,
    info(v6.length > 0 ? `${list(v6)}; members use IPv4` : "none; members use IPv4"),
  ];
}

/** Sockets of this machine. @param endpoints where its agent listens */
export function networkChecks(endpoints: { readonly listen: Endpoint; readonly gateway: Endpoint }): Check[] {
  return [
    { name: "ipv4", look: async () => judgeAddresses(ownAddresses())[0]! },
    { name: "ipv6", look: async () => judgeAddresses(ownAddresses())[1]! },
    { name: "port of members", look: () => lookAtPort(endpoints.listen) },
    { name: "port of gateway", look: () => lookAtPort(endpoints.gateway) },
    { name: "mdns", look: (signal) => lookAtMulticast(signal) },
  ];
}

async function lookAtPort({ host, port }: Endpoint): Promise<Finding> {
  const server = createServer();
  try {
    server.listen(port, host);
    await once(server, "listening");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== "EADDRINUSE")
      return fail(`cannot listen on ${host}:${port} (${code})`, "Choose another address.");
    return (await answersAsGateway({ host, port }))
      ? ok(`an agent answers at ${host}:${port} already`)
      : warn(
          `${host}:${port} is in use`,
          "If it is not an agent that runs here already, choose another port with --listen or --gateway.",
        );
  }
  server.close();
  await once(server, "close");
  return ok(port === 0 ? `a free port on ${host}` : `${host}:${port} is free`);
}

async function answersAsGateway({ host, port }: Endpoint): Promise<boolean> {
  const at = host === "0.0.0.0" ? "127.0.0.1" : host;
  const answer = await fetch(`http://${at}:${port}/v2/health/live`, {
    signal: AbortSignal.timeout(1_000),
  }).catch(() => undefined);
  return answer?.ok ?? false;
}

/** Whether a multicast DNS packet leaves each link and is heard: our own question comes back where multicast works. */
async function lookAtMulticast(signal: AbortSignal): Promise<Finding> {
  const links = ownAddresses().filter(({ family }) => family === "IPv4");
  if (links.length === 0) return info("no link that leads to other machines");
  const heard = await Promise.all(links.map(({ address }) => hearsItself(address, signal)));
  const deaf = links.filter((_, i) => !heard[i]).map(({ link }) => link);
  if (deaf.length === 0) return ok(`multicast is heard on ${links.map(({ link }) => link).join(", ")}`);
  return warn(
    `no multicast on ${deaf.join(", ")}`,
    "Open UDP port 5353, or join with a token that names addresses (`ringfold token` makes such).",
  );
}

async function hearsItself(address: string, signal: AbortSignal): Promise<boolean> {
  const name = `_${randomBytes(8).toString("hex")}._udp.local`;
  const mdns = multicastDns({ interface: address, bind: "0.0.0.0" });
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const timer = setTimeout(resolve, multicastWaitMs, false);
  const onAbort = () => resolve(false);
  signal.addEventListener("abort", onAbort, { once: true });
  mdns.on("query", ({ questions }) => questions?.some((question) => question.name === name) && resolve(true));
  mdns.on("warning", () => resolve(false)).on("error", () => resolve(false));
  mdns.once("ready", () => mdns.query([{ name, type: "PTR" }], (error) => error && resolve(false)));
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
    await new Promise<void>((done) => mdns.destroy(() => done()));
  }
}
