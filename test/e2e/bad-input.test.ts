import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateKeyPair } from "@libp2p/crypto/keys";
import { noise } from "@libp2p/noise";
import { preSharedKey } from "@libp2p/pnet";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { decodeJwt } from "jose";
import { createLibp2p } from "libp2p";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LocalCluster } from "../../scripts/local-cluster/local-cluster.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";
import { runRingfold } from "../unit/cli/ringfold-process.ts";

const names = ["agent-1", "agent-2"];
const cluster = useTestCluster(names);
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ringfold-bad-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const env = () => ({
  RINGFOLD_HOME: folder,
  RINGFOLD_COORDINATOR: cluster.processes.coordinator.ready.httpUrl,
  RINGFOLD_OPERATOR_TOKEN: cluster.processes.coordinator.ready.operatorToken,
  RINGFOLD_LOG: "silent",
});

/** Exit code and text for a person: the cause named, a remedy, never a stack. */
async function expectRefusal(
  parameters: string[],
  expected: { exit: number; says: RegExp; env?: Record<string, string> },
) {
  const { exitCode, stderr } = await runRingfold(parameters, { env: { ...env(), ...expected.env } });
  expect(stderr).toMatch(expected.says);
  expect(exitCode).toBe(expected.exit);
  expect(stderr).not.toMatch(/^\s+at .+:\d+:\d+/m);
  expect(stderr).not.toMatch(/node_modules/);
}

describe("the command line", () => {
  test("an agent with a token that is none, from another cluster, or expired", async () => {
    const agent = [
      "agent",
      "--data",
      join(folder, "stranger"),
      "--listen",
      "127.0.0.1:0",
      "--gateway",
      "127.0.0.1:0",
    ];
    await expectRefusal([...agent, "--join", "nonsense"], { exit: 77, says: /not a Ringfold join token/ });
    const { joinToken } = cluster.processes.coordinator.ready;
    const mangled = `${joinToken.slice(0, -8)}AAAAAAAA`;
    await expectRefusal([...agent, "--join", mangled], { exit: 77, says: /not signed by this cluster/ });
    await expectRefusal(agent, { exit: 77, says: /has not joined a cluster yet/ });
  }, 30_000);

  test("an agent whose coordinator is not there gives up after its time", async () => {
    const { token } = await cluster
      .api()
      .createToken({ role: "worker", expiresInSeconds: 60, addresses: true });
    const { addresses } = decodeJwt<{ addresses: string[] }>(token);
    expect(addresses.length).toBeGreaterThan(0);
    const { signal } = new AbortController();
    const gone = new LocalCluster({ folder: join(folder, "elsewhere"), signal });
    const stale = (await gone.startCoordinator()).ready.joinToken;
    await gone.stop();
    const parameters = [
      "agent",
      "--data",
      join(folder, "lonely"),
      "--listen",
      "127.0.0.1:0",
      "--gateway",
      "127.0.0.1:0",
    ];
    await expectRefusal([...parameters, "--join", stale, "--join-timeout", "2"], {
      exit: 69,
      says: /cannot reach the coordinator \(\/ip4\/127\.0\.0\.1/,
    });
  }, 60_000);

  test("a port that is in use, for each listener", async () => {
    const taken = createServer();
    const port = await listen(taken);
    const data = ["--data", join(folder, "ports")];
    await expectRefusal(["coordinator", ...data, "--listen", `127.0.0.1:${port}`, "--http", "127.0.0.1:0"], {
      exit: 73,
      says: new RegExp(`127\\.0\\.0\\.1:${port}`),
    });
    await expectRefusal(["coordinator", ...data, "--listen", "127.0.0.1:0", "--http", `127.0.0.1:${port}`], {
      exit: 73,
      says: new RegExp(`127\\.0\\.0\\.1:${port}`),
    });
    const { joinToken } = cluster.processes.coordinator.ready;
    await expectRefusal(
      [
        "agent",
        "--data",
        join(folder, "agent-port"),
        "--join",
        joinToken,
        "--listen",
        "127.0.0.1:0",
        "--gateway",
        `127.0.0.1:${port}`,
      ],
      { exit: 73, says: new RegExp(`127\\.0\\.0\\.1:${port}`) },
    );
    taken.close();
  }, 60_000);

  test("a coordinator that is not there, and an operator token that is wrong", async () => {
    await expectRefusal(["peers"], {
      exit: 69,
      says: /no coordinator answers at/,
      env: { RINGFOLD_COORDINATOR: "http://127.0.0.1:9" },
    });
    await expectRefusal(["jobs", "cancel", "job-1"], {
      exit: 77,
      says: /operator token/,
      env: { RINGFOLD_OPERATOR_TOKEN: "wrong" },
    });
  });

  test("a store from a newer release is refused, untouched", async () => {
    const { openLmdbStore } = await import("../../coordinator/store/lmdb-store.ts");
    const path = join(folder, "newer");
    const store = await openLmdbStore(join(path, "store"));
    await store.write([{ key: "meta/format", value: new TextEncoder().encode("999") }]);
    await store.close();
    await expectRefusal(["coordinator", "--data", path, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"], {
      exit: 78,
      says: /store format 999/,
    });
  });
});

describe("jobs", () => {
  const run = async (lines: string) => {
    const path = join(folder, "job.yaml");
    await writeFile(path, lines);
    return path;
  };
  const header = "name: broken\nmodel: {architecture: mlp}\nworkers: {min: 1, max: 1}\n";

  test("unknown keys and missing files are named with line and path", async () => {
    const unknown = await run(`${header}data: {source: mnist}\nbatchsize: 3\n`);
    await expectRefusal(["train", unknown], { exit: 65, says: /job\.yaml:5:1.*batchsize.*batchSize/ });
    await expectRefusal(["train", join(folder, "nowhere.yaml")], { exit: 66, says: /nowhere\.yaml/ });
  });

  test("a data set that is missing or has the wrong shape fails the job with its file, and the cluster goes on", async () => {
    const images = join(folder, "images");
    const labels = join(folder, "labels");
    await writeFile(images, idx([3, 4, 4]));
    await writeFile(labels, idx([2]));
    const data = (trainImages: string, trainLabels: string) =>
      `data: {source: idx, trainImages: ${trainImages}, trainLabels: ${trainLabels}, testImages: ${images}, testLabels: ${labels}}\n`;
    const missing = await run(header + data(join(folder, "gone"), labels));
    await expectRefusal(["train", missing], { exit: 66, says: /FILE_NOT_FOUND.*gone/ });
    const mismatched = await run(header + data(images, labels));
    await expectRefusal(["train", mismatched], { exit: 65, says: /DATA_INVALID.*2 labels for 3 images/ });
    const notIdx = await run(header + data(mismatched, labels));
    await expectRefusal(["train", notIdx], { exit: 65, says: /DATA_INVALID.*not an IDX file/ });
    const { id } = await cluster.api().submitJob(smallJob({ epochs: 1 }));
    expect(await cluster.untilJob(id, ({ state }) => state === "succeeded")).toMatchObject({
      version: "digits@1",
    });
  }, 90_000);
});

test("random bytes on every protocol of every member do no harm", async () => {
  const { joinToken, addresses, peerId } = cluster.processes.coordinator.ready;
  const { swarmKey } = decodeJwt<{ swarmKey: string }>(joinToken);
  const peers = await cluster.api().peers();
  const intruder = await createLibp2p({
    privateKey: await generateKeyPair("Ed25519"),
    connectionProtector: preSharedKey({ psk: new TextEncoder().encode(swarmKey) }),
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
  });
  try {
    const targets = [{ peerId, addresses }, ...peers];
    let streams = 0;
    for (const target of targets) {
      const connection = await intruder.dial(target.addresses.map((address) => multiaddr(address)));
      for (const protocol of protocols) {
        for (const payload of hostilePayloads) {
          const stream = await connection.newStream(protocol).catch(() => undefined);
          if (!stream) break; // this member does not speak it
          streams++;
          stream.send(payload);
          await stream.close().catch(() => {});
        }
      }
    }
    expect(streams).toBeGreaterThan(targets.length * hostilePayloads.length);
  } finally {
    await intruder.stop();
  }
  const { id } = await cluster.api().submitJob(smallJob({ epochs: 1 }));
  await cluster.untilJob(id, ({ state }) => state === "succeeded");
  expect(cluster.processes.liveAgents()).toHaveLength(names.length);
  expect((await cluster.api().peers()).every(({ state }) => state === "alive")).toBe(true);
}, 90_000);

const protocols = [
  "membership/join",
  "membership/leave",
  "job/prepare",
  "job/start",
  "job/quiesce",
  "job/stop",
  "job/report",
  "artefact/stat",
  "artefact/read",
  "serving/place",
  "serving/report",
  "serving/infer",
].map((name) => `/ringfold/${name}/1`);

/** Repeatable noise, alone and behind length prefixes that lie. */
const noiseBytes = Uint8Array.from({ length: 3_000 }, (_, i) => (i * 7_919 + 31) % 256);
const hostilePayloads = [
  noiseBytes,
  Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x7f, 1, 2, 3), // a length of 34 GB
  Uint8Array.of(5, 1, 2), // ends too early
  Uint8Array.of(4, 0xc1, 0xc1, 0xc1, 0xc1), // never used in msgpack
  Uint8Array.of(0),
];

function idx(shape: readonly number[]): Uint8Array {
  const count = shape.reduce((product, dimension) => product * dimension, 1);
  const bytes = Buffer.alloc(4 + 4 * shape.length + count);
  bytes[2] = 8;
  bytes[3] = shape.length;
  for (const [i, dimension] of shape.entries()) bytes.writeUInt32BE(dimension, 4 + 4 * i);
  return bytes;
}

const listen = (server: Server): Promise<number> =>
  new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port)),
  );
