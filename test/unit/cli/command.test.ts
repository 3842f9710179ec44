import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type CoordinatorServer, problem, startCoordinatorServer } from "./coordinator-server.ts";
import { runRingfold, startRingfold } from "./ringfold-process.ts";
import { jobView, manifest, peerView, progress, succeeded, versionView } from "./views.ts";

vi.setConfig({ testTimeout: 30_000 });

let home: string;
let server: CoordinatorServer;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "ringfold-home-"));
  await mkdir(join(home, "coordinator"));
  await writeFile(join(home, "coordinator", "operator-token"), "token-of-the-file\n");
});
afterAll(() => rm(home, { recursive: true }));
beforeEach(async () => {
  server = await startCoordinatorServer();
});
afterEach(() => server[Symbol.asyncDispose]());

const run = (...userArguments: string[]) =>
  runRingfold(userArguments, { env: { RINGFOLD_COORDINATOR: server.url } });

describe("the command line", () => {
  test.each([
    ["an unknown command", ["trian"], "unknown command 'trian' (Did you mean train?)"],
    ["an unknown option", ["jobs", "--jsno"], "unknown option '--jsno' (Did you mean --json?)"],
    [
      "an unknown command of a group",
      ["jobs", "shwo"],
      "jobs has no command 'shwo', only show, follow, logs, priority, pause, resume, cancel, retry",
    ],
    ["a missing argument", ["train"], "missing required argument 'job-file'"],
    ["a wrong argument", ["deploy", "digits"], "Give NAME@N or NAME@ALIAS, for example digits@1."],
    ["a wrong option value", ["token", "--expires", "soon"], "Give a time such as 90s, 15m, 12h or 7d."],
    ["an unknown role", ["token", "--role", "king"], "choose one of worker, server, coordinator, operator"],
    ["a label without a value", ["agent", "--label", "room"], "Give KEY=VALUE, for example room=a."],
    ["no address", ["peers", "--coordinator", "here"], "here is not an HTTP address"],
  ])("%s is refused with 64, for people and for programs", async (_what, userArguments, message) => {
    const spoken = await run(...userArguments);
    expect(spoken).toMatchObject({ exitCode: 64, stdout: "" });
    expect(spoken.stderr).toContain(message);

    const coded = await run(...userArguments, "--json");
    expect(coded).toMatchObject({ exitCode: 64, stderr: "" });
    const { error } = JSON.parse(coded.stdout);
    expect(error).toMatchObject({ code: "USAGE" });
    expect(error.message).toContain(message);
    expect(server.requests).toEqual([]);
  });

  test("alone it shows its help and fails, with --help it shows it and does not", async () => {
    const alone = await run();
    expect(alone.exitCode).toBe(64);
    expect(alone.stderr).toContain("Usage: ringfold");
    const asked = await run("--help");
    expect(asked).toMatchObject({ exitCode: 0, stderr: "" });
    expect(asked.stdout).toContain("Usage: ringfold");
  });

  test("its output may be closed by who reads it", async () => {
    server.routes.set("GET /api/jobs", () => ({
      body: Array.from({ length: 2_000 }, () => jobView({ reason: "x".repeat(200) })),
    }));
    const started = startRingfold(["jobs", "--json"], { env: { RINGFOLD_COORDINATOR: server.url } });
    started.child.stdout.destroy();
    expect(await started.outcome).toMatchObject({ exitCode: 0, stderr: "" });
  });
});

describe("errors", () => {
  test("labels in the environment that are none: 78, with how to write them", async () => {
    const env = { RINGFOLD_HOME: home, RINGFOLD_LABELS: "room=a,rack" };
    const { exitCode, stderr } = await runRingfold(["agent"], { env });
    expect(exitCode).toBe(78);
    expect(stderr).toContain("RINGFOLD_LABELS=room=a,rack: Give KEY=VALUE, for example room=a.");
    expect(stderr).toContain("Write it as room=a,rack=3.");
  });

  test("nobody listens: 69, naming the address, without a stack", async () => {
    const { url } = server;
    await server[Symbol.asyncDispose]();
    const { exitCode, stdout, stderr } = await run("peers");
    expect({ exitCode, stdout }).toEqual({ exitCode: 69, stdout: "" });
    expect(stderr).toContain(`no coordinator answers at ${url} (ECONNREFUSED)`);
    expect(stderr).not.toMatch(/^\s+at /m);

    const debugged = await run("peers", "--debug");
    expect(debugged.stderr).toContain("debug: COORDINATOR_UNREACHABLE");
    server = await startCoordinatorServer();
  });

  test("the coordinator's code, message, data and remedy come through", async () => {
    server.routes.set("POST /api/jobs/job-9/cancel", () =>
      problem(409, "CONFLICT", "job-9 has ended", { state: "failed", nested: { dropped: true } }),
    );
    const { exitCode, stdout, stderr } = await run("jobs", "cancel", "job-9", "--json");
    expect({ exitCode, stderr }).toEqual({ exitCode: 65, stderr: "" });
    expect(JSON.parse(stdout)).toEqual({
      error: {
        code: "CONFLICT",
        message: "job-9 has ended",
        remedy: "remedy of CONFLICT",
        data: { state: "failed", remedy: "remedy of CONFLICT" },
      },
    });
  });

  test("another program at that address: 76", async () => {
    server.routes.set("GET /api/peers", () => ({ body: { hello: "I am a printer" } }));
    const { exitCode, stderr } = await run("peers");
    expect(exitCode).toBe(76);
    expect(stderr).toContain(`${server.url} does not answer as this release expects`);
  });

  test("a gateway timeout of a proxy is temporary: 75", async () => {
    server.routes.set("GET /api/peers", () => ({ status: 504, body: "proxy" }));
    expect((await run("peers")).exitCode).toBe(75);
  });
});

describe("the operator token", () => {
  beforeEach(() => {
    server.routes.set("POST /api/tokens", ({ authorization }) =>
      authorization === undefined
        ? problem(401, "UNAUTHENTICATED", "no operator token")
        : { body: { token: "join-me", id: "token-1" } },
    );
  });
  const seenWith = async (userArguments: string[], env: Record<string, string>) => {
    const outcome = await runRingfold(["token", ...userArguments], {
      env: { RINGFOLD_COORDINATOR: server.url, ...env },
    });
    return { ...outcome, authorization: server.requests[0]?.authorization };
  };

  test("comes from the coordinator's file", async () => {
    const { authorization } = await seenWith([], { RINGFOLD_HOME: home });
    expect(authorization).toBe("Bearer token-of-the-file");
  });

  test("the environment goes before the file, the option before both", async () => {
    const env = { RINGFOLD_HOME: home, RINGFOLD_OPERATOR_TOKEN: "token-of-env" };
    expect((await seenWith([], env)).authorization).toBe("Bearer token-of-env");
    await seenWith(["--operator-token", "token-of-option"], env);
    expect(server.requests[1]?.authorization).toBe("Bearer token-of-option");
  });

  test("is missing: 77 and how to give it", async () => {
    const { exitCode, stderr } = await seenWith([], {});
    expect(exitCode).toBe(77);
    expect(stderr).toContain("remedy of UNAUTHENTICATED");
  });

  test("`token` prints the new token and nothing else, for the role and time that were asked", async () => {
    const { stdout, stderr } = await seenWith(["--role", "server", "--expires", "2h"], {
      RINGFOLD_HOME: home,
    });
    expect({ stdout, stderr }).toEqual({ stdout: "join-me\n", stderr: "" });
    expect(server.requests[0]?.body).toEqual({ role: "server", expiresInSeconds: 7_200, addresses: true });
  });
});

describe("lists and details", () => {
  test("jobs: a line each, and no escape sequence of a stranger reaches the terminal", async () => {
    const hostile = jobView({ id: "job-2", reason: "\u001b[2Jwaits \u009b31m" });
    server.routes.set("GET /api/jobs", () => ({ body: [succeeded(), hostile] }));
    const { exitCode, stdout } = await run("jobs");
    expect(exitCode).toBe(0);
    const [head, first, second] = stdout.split("\n");
    expect(head).toMatch(/^ID +NAME +STATE +QUEUE +STEP +LOSS +ACCURACY +WORLD +VERSION +REASON$/);
    expect(first).toMatch(
      /^job-1 +digits +succeeded +- +938\/938 +0\.2500 +98\.2% +2 +digits@1 +all steps done$/,
    );
    expect(second).toContain("waits");
    expect(stdout.replaceAll("\n", "")).not.toMatch(/\p{Cc}/u);
  });

  test("jobs show: its generations with their reasons", async () => {
    server.routes.set("GET /api/jobs/job-1", () => ({ body: succeeded() }));
    const { stdout } = await run("jobs", "show", "job-1");
    expect(stdout).toMatch(/^state +succeeded: all steps done$/m);
    expect(stdout).toMatch(/^running time +1m05s$/m);
    expect(stdout).toMatch(/^1 +0 +- +AAAAAA BBBBBB +2 workers present$/m);
  });

  test("jobs show: tells of updates that were skipped", async () => {
    server.routes.set("GET /api/jobs/job-1", () => ({
      body: succeeded({ progress: { ...progress(938), skippedSteps: 3 } }),
    }));
    expect((await run("jobs", "show", "job-1")).stdout).toMatch(/^skipped +3 updates/m);
  });

  test("jobs show: says how many generations are not kept", async () => {
    server.routes.set("GET /api/jobs/job-1", () => ({ body: succeeded({ generationCount: 300 }) }));
    expect((await run("jobs", "show", "job-1")).stdout).toMatch(
      /^299 generations after the first are not kept$/m,
    );
  });

  test("peers, models and one version", async () => {
    const gpus = [6e9, 25_757_220_864].map((memoryBytes) => ({ name: "NVIDIA RTX", memoryBytes }));
    const { capabilities } = peerView();
    const withGpus = { ...capabilities, gpus, labels: { room: "a", rack: "3" } };
    server.routes.set("GET /api/peers", () => ({
      body: [peerView(), peerView({ name: "lab-2", capabilities: withGpus })],
    }));
    server.routes.set("GET /api/models", () => ({ body: [versionView] }));
    server.routes.set("GET /api/models/digits/versions/1", () => ({ body: { ...versionView, manifest } }));
    const peers = (await run("peers")).stdout;
    expect(peers).toMatch(/^AAAAAA +lab-1 +alive +worker,server +wasm +- +- +12\.3 +50% +250MB +- +-$/m);
    expect(peers).toMatch(/^AAAAAA +lab-2 .* +2 x NVIDIA RTX +25\.8 GB +12\.3 .* room=a, rack=3 +-$/m);
    expect((await run("models")).stdout).toMatch(
      /^digits@1 +champion +98\.21% +0\.0543 +54\.4k +4 +220kB +2\/2 +job-1/m,
    );
    const { stdout } = await run("models", "show", "digits@1");
    expect(stdout).toMatch(/^input +28x28x1$/m);
    expect(stdout).toMatch(/^dense +Dense +10 +54\.1k$/m);
  });

  test("--json prints what the coordinator answered, before or after the command", async () => {
    server.routes.set("GET /api/peers", () => ({ body: [peerView()] }));
    for (const order of [
      ["peers", "--json"],
      ["--json", "peers"],
    ]) {
      const { stdout, stderr } = await run(...order);
      expect(stderr).toBe("");
      expect(JSON.parse(stdout)).toEqual([peerView()]);
    }
  });

  test("nothing yet", async () => {
    server.routes.set("GET /api/deployments", () => ({ body: [] }));
    expect((await run("deploy", "list")).stdout).toBe("no deployments yet\n");
  });
});
