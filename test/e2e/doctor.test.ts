import { execFile } from "node:child_process";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { z } from "zod";
import { startAgentProcess } from "../../scripts/local-cluster/local-cluster.ts";
import { startReadyProcess } from "../../scripts/local-cluster/ready-process.ts";
import { type VirtualMachine, whyNoVirtualNetworks } from "../../scripts/local-cluster/virtual-network.ts";
import { useNetworkBench } from "../fixtures/network-bench.ts";

/** `ringfold doctor` on virtual machines whose network is broken on purpose, one thing at a time. */

const obstacle = whyNoVirtualNetworks();
const testTimeoutMs = 60_000;
const launcher = fileURLToPath(new URL("../../scripts/ringfold", import.meta.url));
const coordinatorSchema = z.object({ joinToken: z.string(), operatorToken: z.string() });
const reportSchema = z.object({
  healthy: z.boolean(),
  findings: z.array(
    z.object({ check: z.string(), verdict: z.string(), detail: z.string(), remedy: z.string() }),
  ),
});

const bench = useNetworkBench("ringfold-doctor-");
const environment = () => ({ ...process.env, RINGFOLD_HOME: bench.folder, RINGFOLD_LOG: "debug" });

async function startCoordinator(machine: VirtualMachine) {
  const data = join(bench.folder, "coordinator");
  await mkdir(data, { recursive: true });
  const coordinator = await startReadyProcess(["coordinator", "--data", data, "--http", "0.0.0.0:7070"], {
    logPath: join(bench.folder, "coordinator.log"),
    env: environment(),
    wrapper: machine.wrapper,
    signal: bench.signal,
    schema: coordinatorSchema,
  });
  bench.processes.push(coordinator);
  return { ...coordinator.ready, url: `http://${machine.address}:7070` };
}

/** @returns its data folder */
async function startAgent(
  name: string,
  { wrapper }: VirtualMachine,
  { joinToken }: { readonly joinToken: string },
  ...options: readonly string[]
): Promise<string> {
  const data = join(bench.folder, name);
  await mkdir(data);
  const agent = await startAgentProcess({
    parameters: ["--data", data, "--name", name, "--join", joinToken, "--engine", "wasm", ...options],
    logPath: join(bench.folder, `${name}.log`),
    ...{ env: environment(), wrapper, signal: bench.signal },
  });
  bench.processes.push(agent);
  return data;
}

interface Visit {
  readonly coordinator: { readonly url: string; readonly operatorToken: string };
  readonly data?: string;
}

/** What the doctor says of a machine: findings by check. It ends with 1 where something failed. */
async function doctor(machine: VirtualMachine, { coordinator, data = join(bench.folder, "agent") }: Visit) {
  const [command, ...wrapped] = [
    ...machine.wrapper,
    launcher,
    "doctor",
    "--only",
    "network,cluster",
    "--json",
  ];
  const options = [
    "--coordinator",
    coordinator.url,
    "--operator-token",
    coordinator.operatorToken,
    "--data",
    data,
  ];
  const { stdout, code } = await promisify(execFile)(command!, [...wrapped, ...options], {
    env: environment(),
    signal: bench.signal,
  }).then(
    ({ stdout: text }) => ({ stdout: text, code: 0 }),
    (error: { stdout: string; code: number }) => error,
  );
  const { healthy, findings } = reportSchema.parse(JSON.parse(stdout));
  expect(code).toBe(healthy ? 0 : 1);
  return Object.fromEntries(findings.map(({ check, ...finding }) => [check, finding]));
}

const drop = (machine: VirtualMachine, hook: "input" | "output", what: string): Promise<string> =>
  machine.run(
    "nft",
    `table ip wall { chain ${hook} { type filter hook ${hook} priority 0; ${what} drop; }; }`,
  );

test.skipIf(obstacle)(
  "a healthy machine, and then a firewall before its multicast, itself and the coordinator",
  async () => {
    const [lan] = await bench.openNetwork([2], { routed: false });
    const [home, guest] = [lan![0]!, lan![1]!];
    const coordinator = await startCoordinator(home);
    const healthy = await doctor(guest, { coordinator });
    expect(healthy).toMatchObject({
      mdns: { verdict: "ok" },
      nat: { verdict: "ok" },
      reachable: { verdict: "ok", detail: expect.stringContaining(`reaches ${guest.address}:`) },
      relay: { verdict: "ok", detail: `the coordinator relays at ${home.address}:7071` },
    });
    await drop(guest, "output", "udp dport 5353");
    await drop(guest, "input", "ct state new tcp dport 1-65535");
    await drop(home, "input", "tcp dport 7071");
    expect(await doctor(guest, { coordinator })).toMatchObject({
      mdns: { verdict: "warn", detail: "no multicast on eth0" },
      nat: { verdict: "ok" },
      reachable: { verdict: "fail", detail: expect.stringContaining("no answer in time") },
      relay: { verdict: "fail" },
    });
  },
  testTimeoutMs,
);

test.skipIf(obstacle).each([
  ["endpoint-independent", "endpoint-independent mapping (a cone)", "hole punching"],
  ["dependent", "(symmetric)", "Hole punching does not work"],
] as const)(
  "a machine behind a translation whose mapping is %s learns that, and that nobody reaches it",
  async (mapping, kind, remedy) => {
    const [[home, other], [guest]] = (await bench.openNetwork([2, 1], { routed: true })) as [
      [VirtualMachine, VirtualMachine],
      [VirtualMachine],
    ];
    const coordinator = await startCoordinator(home);
    expect((await doctor(guest, { coordinator })).nat).toMatchObject({ verdict: "ok" });
    await bench.network.masquerade(1, mapping);
    expect((await doctor(guest, { coordinator })).nat).toMatchObject({
      ...{ verdict: "warn", detail: expect.stringContaining(`${guest.address} is seen as `) },
      remedy: expect.stringContaining("Its kind is told once an agent elsewhere runs"),
    });
    await startAgent("bert", other, coordinator, "--gateway", "0.0.0.0:7080");
    expect(await doctor(guest, { coordinator })).toMatchObject({
      nat: {
        ...{ verdict: "warn", detail: expect.stringContaining(kind) },
        remedy: expect.stringContaining(remedy),
      },
      reachable: { verdict: "fail" },
      relay: { verdict: "ok" },
    });
  },
  testTimeoutMs,
);

test.skipIf(obstacle)(
  "a copied data folder is found before its agent starts",
  async () => {
    const [lan] = await bench.openNetwork([3], { routed: false });
    const coordinator = await startCoordinator(lan![0]!);
    const data = await startAgent("anna", lan![1]!, coordinator);
    expect((await doctor(lan![1]!, { coordinator, data })).identity).toMatchObject({ verdict: "ok" });
    const copy = join(bench.folder, "copy");
    await cp(data, copy, { recursive: true });
    expect((await doctor(lan![2]!, { coordinator, data: copy })).identity).toMatchObject({
      verdict: "fail",
      detail: expect.stringContaining(`anna on `),
    });
  },
  testTimeoutMs,
);
