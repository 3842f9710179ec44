import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { expect, onTestFinished, test } from "vitest";
import { Candidate } from "../fixtures/candidate.ts";
import { EtcdCluster, etcdIsInstalled, freePorts } from "../fixtures/etcd-cluster.ts";
import { runRingfold } from "../unit/cli/ringfold-process.ts";

const chromiumPath = process.env.RINGFOLD_CHROMIUM ?? "/usr/bin/chromium";

test.skipIf(!existsSync(chromiumPath) || !etcdIsInstalled)(
  "the page of a coordinator that stands by goes to the one that leads, and on when that one dies; and so does a command",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "ringfold-standby-"));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const etcd = await EtcdCluster.start(1);
    onTestFinished(() => etcd.close());
    const ports = await freePorts(4);
    const urls = [0, 1].map((index) => `http://127.0.0.1:${ports[2 * index + 1]}`);
    const start = (index: number) => {
      const candidate = new Candidate([
        ...[
          "--store",
          `etcd://${new URL(etcd.endpoints[0]!).host}/page`,
          "--data",
          join(folder, `c${index}`),
        ],
        ...["--listen", `127.0.0.1:${ports[2 * index]}`, "--http", new URL(urls[index]!).host],
      ]);
      onTestFinished(() => candidate.kill());
      return candidate;
    };
    const standsBy = start(0);
    await standsBy.says("ready");
    const leader = start(1);
    await leader.says("standby");
    standsBy.signal("SIGSTOP"); // until the other one leads
    await leader.says("ready");
    standsBy.signal("SIGCONT");
    await standsBy.says("standby");
    const peers = (addresses: readonly string[]) =>
      runRingfold(["peers", "--json"], { env: { RINGFOLD_COORDINATOR: addresses.join() } });
    expect(await peers(urls.slice(0, 1))).toMatchObject({ exitCode: 0 });

    const browser = await chromium.launch({
      ...{ executablePath: chromiumPath, args: ["--no-sandbox", "--disable-gpu", "--no-first-run"] },
    });
    onTestFinished(() => browser.close());
    const page = await browser.newPage();
    page.setDefaultTimeout(30_000);
    const isLiveAt = async (url: string) => {
      await page.waitForURL(`${url}/#job-7`);
      await page.getByTestId("connection-state").getByText(/live/i).waitFor();
    };
    await page.goto(`${urls[0]}/#job-7`);
    await isLiveAt(urls[1]!);
    // The page knows of the other one by the next look around of its coordinator at the latest.
    await leader.kill();
    expect(await peers(urls.toReversed())).toMatchObject({ exitCode: 0 });
    await isLiveAt(urls[0]!);
  },
  90_000,
);
