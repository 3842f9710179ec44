import { existsSync } from "node:fs";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sweepSpecSchema } from "../../protocol/sweep-spec.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";

const chromiumPath = process.env.RINGFOLD_CHROMIUM ?? "/usr/bin/chromium";
const names = ["agent-1", "agent-2", "agent-3"];
const longName = "retinopathy-residual-cnn-fine-tuned-on-a-second-hospital";

/** The real page, in a real browser, of a real cluster at work. */
describe.skipIf(!existsSync(chromiumPath))("dashboard", () => {
  const cluster = useTestCluster(names);
  let browser: Browser;
  let page: Page;
  const troubles: string[] = [];
  beforeAll(async () => {
    browser = await chromium.launch({
      executablePath: chromiumPath,
      args: [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
      ],
    });
    page = await browser.newPage();
    page.setDefaultTimeout(30_000);
    page.on("console", (message) => {
      if (message.type() === "error") troubles.push(message.text());
    });
    page.on("pageerror", (error) => troubles.push(error.message));
    await page.goto(cluster.processes.coordinator.ready.httpUrl);
  }, 90_000);
  afterAll(() => browser.close());

  const byId = (id: string) => page.getByTestId(id);
  const number = async (id: string) => Number(await byId(id).first().getAttribute("data-value"));

  test("shows the peers as they are", async () => {
    await byId("connection-state").getByText(/live/i).waitFor();
    await expect.poll(() => byId("peer-row").count(), { timeout: 10_000 }).toBe(3);
    for (const name of names) expect(await byId("peer-row").filter({ hasText: name }).count()).toBe(1);
    expect(await byId("cluster-name").textContent()).toContain("ringfold");
  });

  test("follows a job: ring in rank order, numbers that move, and a loss curve", async () => {
    const { id } = await cluster.api().submitJob(smallJob());
    await cluster.untilJob(id, (job) => (job.progress?.step ?? 0) >= 100);
    await expect.poll(() => byId("ring-rank").count(), { timeout: 10_000 }).toBe(3);
    const ranks = await byId("ring-rank").evaluateAll((elements) =>
      elements.map((element) => [element.getAttribute("data-rank"), element.getAttribute("data-peer-id")]),
    );
    const { generations } = await cluster.api().job(id);
    expect(ranks).toEqual(generations[0]!.ranks.map((peerId, rank) => [String(rank), peerId]));
    const step = await number("job-step");
    expect(step).toBeGreaterThan(0);
    await expect.poll(() => number("job-step"), { timeout: 10_000 }).toBeGreaterThan(step);
    expect(await number("job-world-size")).toBe(3);
    expect(await number("job-samples-per-second")).toBeGreaterThan(0);
    expect(await number("job-loss")).toBeLessThan(2.4);
    await expect
      .poll(async () => Number(await byId("loss-curve").getAttribute("data-points")), { timeout: 10_000 })
      .toBeGreaterThan(3);
  }, 60_000);

  test("shows a death and the new generation with its reason", async () => {
    const dead = cluster.processes.agent("agent-2").ready.peerId;
    await cluster.processes.agent("agent-2").kill();
    await page.locator(`[data-testid=peer-row][data-peer-id="${dead}"][data-state=dead]`).waitFor();
    await byId("generation-row").filter({ hasText: "agent-2 died" }).first().waitFor();
    await expect.poll(() => number("job-world-size"), { timeout: 10_000 }).toBe(2);
  }, 60_000);

  test("shows the version and its deployment", async () => {
    await cluster.until((view) => view.versions.find(({ name }) => name === "digits"));
    await byId("version-row").filter({ hasText: "digits@1" }).waitFor();
    await cluster.api().deploy("digits", { version: 1, shards: 2, replicas: 2 });
    await page.locator("[data-testid=deployment-row][data-state=ready]").waitFor();
    expect(await page.locator("[data-testid=replica][data-ready=true]").count()).toBe(4);
    await byId("version-holders").getByText("2 of 2").waitFor();
  }, 60_000);

  test("shows a sweep, and leads to its best trial", async () => {
    expect(await byId("sweep-row").count()).toBe(0);
    const { search, ...job } = {
      ...smallJob({ name: longName, epochs: 1, workers: { min: 1, max: 1 } }),
      search: { method: "grid", space: { seed: { values: [1, 2] } } },
    };
    await cluster.api().submitSweep(sweepSpecSchema.parse({ ...job, search }));
    await page.locator("[data-testid=sweep-row][data-state=succeeded]").waitFor();
    expect(await byId("sweep-row").textContent()).toContain("2/2");
    await byId("sweep-row").getByRole("link").click();
    const [sweep] = await cluster.api().sweeps();
    expect(new URL(page.url()).hash).toBe(`#${sweep!.best!.jobId}`);
  }, 60_000);

  test("a long name takes no column away", async () => {
    for (const width of [1_400, 1_101, 420]) {
      await page.setViewportSize({ width, height: 900 });
      await byId("version-row")
        .filter({ hasText: `${longName}@1` })
        .waitFor();
      const table = page.locator("#versions .scroll");
      expect(await table.evaluate((element) => element.scrollWidth - element.clientWidth)).toBe(0);
    }
  });

  test("shows where a rollout stands, and what it waits for", async () => {
    const model = { architecture: "mlp", hidden: [16] };
    const { id } = await cluster.api().submitJob(smallJob({ model, epochs: 1 }));
    await cluster.untilJob(id, ({ state }) => state === "succeeded");
    await cluster.api().startRollout({ name: "digits", version: 2, holdSeconds: 3_600 });
    const rollout = page.locator("[data-testid=rollout][data-state=progressing]");
    await rollout.waitFor();
    await rollout.getByText("holds 5% for 3600 s; no request has come to it").waitFor();
    expect(await rollout.textContent()).toContain("rollout digits@1 → @2");
    await page
      .locator("[data-testid=deployment-row][data-live=false]")
      .getByText("gets 5% of the requests")
      .waitFor();
    await cluster.api().orderRollout("digits", "abort", { reason: "seen enough" });
    await page.locator("[data-testid=rollout][data-state=aborted]").waitFor();
  }, 60_000);

  test("says so when the coordinator is away, and comes back by itself", async () => {
    await cluster.processes.coordinator.kill();
    await byId("connection-state")
      .getByText(/reconnecting|lost/i)
      .waitFor();
    troubles.length = 0; // a browser reports a refused connection by itself
    await cluster.processes.startCoordinator();
    await byId("connection-state").getByText(/live/i).waitFor();
    await byId("version-row").filter({ hasText: "digits@1" }).waitFor();
  }, 60_000);

  test("ran without an error or a violation of its content policy", () => {
    expect(troubles.filter((text) => !text.includes("ERR_CONNECTION_REFUSED"))).toEqual([]);
  });
});
