import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RingfoldError } from "../../protocol/errors.ts";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import { readJobFile } from "../../scripts/job-file.ts";

let folder: string;
let path: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "ringfold-job-file-"));
  path = join(folder, "job.yaml");
});
afterAll(() => rm(folder, { recursive: true }));

async function readText(text: string | Uint8Array) {
  await writeFile(path, text);
  return readJobFile(path);
}

/** The mistakes of a file, each without the folder in front. */
async function mistakesOf(text: string | Uint8Array): Promise<string[]> {
  const error = await readText(text).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof RingfoldError)) throw new Error(`no RingfoldError: ${String(error)}`);
  expect(error.code).toBe("JOB_INVALID");
  expect(error.data.mistakes).toEqual(error.message.split("\n"));
  return error.message.replaceAll(`${folder}/`, "").split("\n");
}

const minimal = `name: digits
model:
  architecture: cnn
data:
  source: mnist
`;

describe("a correct file", () => {
  test("gets every default of the schema", async () => {
    const spec = await readText(minimal);
    expect(spec).toEqual(
      jobSpecSchema.parse({
        name: "digits",
        model: { architecture: "cnn" },
        data: { source: "mnist" },
      }),
    );
  });

  test("has the data paths resolved against its own folder", async () => {
    const spec = await readText(`name: a
model: { architecture: mlp }
data:
  source: idx
  trainImages: data/images
  trainLabels: ../labels
  testImages: /absolute/images
  testLabels: labels
`);
    expect(spec.data).toMatchObject({
      trainImages: join(folder, "data/images"),
      trainLabels: join(folder, "../labels"),
      testImages: "/absolute/images",
      testLabels: join(folder, "labels"),
    });
  });

  test("may use an anchor", async () => {
    const spec = await readText(`${minimal}epochs: &three 3\nseed: *three\n`);
    expect(spec).toMatchObject({ epochs: 3, seed: 3 });
  });

  test("may begin with a byte order mark and have Windows line ends", async () => {
    const spec = await readText(`\u{feff}${minimal.replaceAll("\n", "\r\n")}`);
    expect(spec.name).toBe("digits");
  });

  test("the example of the demo", async () => {
    const spec = await readJobFile(new URL("../../examples/digits/job.yaml", import.meta.url).pathname);
    expect(spec).toMatchObject({
      name: "digits",
      model: { architecture: "cnn", filters: [32] },
      data: { source: "mnist" },
      optimizer: { kind: "adam", learningRate: 0.001 },
      batchSize: 64,
      epochs: 3,
      workers: { min: 2, max: 4 },
      seed: 7,
    });
  });
});

describe("mistakes are named with line, column and key", () => {
  test("an unknown key, with the one that was meant", async () => {
    expect(await mistakesOf(`${minimal}optimizer:\n  kind: adam\n  learningrate: 0.1\n`)).toEqual([
      "job.yaml:8:3 optimizer.learningrate: unknown key (did you mean learningRate?)",
    ]);
  });

  test("an unknown key far from any, with those that may stand there", async () => {
    expect(await mistakesOf(`${minimal}optimizer:\n  kind: sgd\n  beta1: 0.9\n`)).toEqual([
      "job.yaml:8:3 optimizer.beta1: unknown key (allowed: kind, learningRate, momentum, nesterov, weightDecay)",
    ]);
  });

  test("a missing key, at its parent", async () => {
    expect(await mistakesOf("name: a\nmodel:\n  architecture: layers\ndata:\n  source: mnist\n")).toEqual([
      "job.yaml:2:1 model.topology: is missing",
    ]);
  });

  test("a shape that does not exist", async () => {
    expect(await mistakesOf(minimal.replace("cnn", "transformer"))).toEqual([
      expect.stringMatching(
        /^job\.yaml:3:3 model\.architecture: "transformer": choose one of cnn, mlp, .*layers, .*script$/,
      ),
    ]);
    expect(await mistakesOf(`${minimal}optimizer:\n  learningRate: 1\n`)).toEqual([
      "job.yaml:6:1 optimizer.kind: is missing: choose one of sgd, adam, adamw, rmsprop",
    ]);
  });

  test("wrong values, all of them, in the order of the file", async () => {
    const text = `name: Not A Name
model: { architecture: cnn, filters: [32, 1.5, wide] }
data:
  source: mnist
batchSize: 0
epochs: "3"
seed: -1
engine: gpu
`;
    expect(await mistakesOf(text)).toEqual([
      "job.yaml:1:1 name: use 1-63 of a-z, 0-9, dot, dash and underscore, not starting with a sign",
      "job.yaml:2:43 model.filters.1: must be a whole number, and is 1.5",
      'job.yaml:2:48 model.filters.2: must be of type number, and is "wide"',
      "job.yaml:5:1 batchSize: must be >0",
      'job.yaml:6:1 epochs: must be of type number, and is "3"',
      "job.yaml:7:1 seed: must be >=0",
      'job.yaml:8:1 engine: "gpu": choose one of auto, tensorflow, webgpu, wasm, cpu, torch',
    ]);
  });

  test("needs: sizes without a unit, and keys that there are not", async () => {
    const text = `${minimal}needs:\n  gpuMemory: 8\n  memory: 16G\n  labels: { room: [a] }\n  gpu_memory: 8GB\n`;
    const size = "give a size with its unit, such as 8GB (10^9 bytes each) or 8GiB (2^30)";
    expect(await mistakesOf(text)).toEqual([
      `job.yaml:7:3 needs.gpuMemory: 8: ${size}, and no less than 1MB`,
      `job.yaml:8:3 needs.memory: "16G": ${size}`,
      'job.yaml:9:13 needs.labels.room: must be of type string, and is ["a"]',
      "job.yaml:10:3 needs.gpu_memory: unknown key (did you mean gpuMemory?)",
    ]);
  });

  test("a rule over two keys", async () => {
    expect(await mistakesOf(`${minimal}workers:\n  max: 2\n  min: 4\n`)).toEqual([
      "job.yaml:8:3 workers.min: workers.min is more than workers.max",
    ]);
  });

  test("a mistake behind an alias stands where its anchor is", async () => {
    const text = `name: &model\n  architecture: cnn\n  filter: [1]\nmodel: *model\ndata: { source: mnist }\n`;
    expect(await mistakesOf(text)).toEqual([
      'job.yaml:1:1 name: must be of type string, and is {"architecture":"cnn","filter":[1]}',
      "job.yaml:3:3 model.filter: unknown key (allowed: architecture, filters, kernelSize, hidden)",
    ]);
  });

  test("syntax and duplicates", async () => {
    expect(await mistakesOf("name: a\nname: b\n")).toEqual(["job.yaml:2:1 Map keys must be unique"]);
    const [first] = await mistakesOf("name: [a\nmodel: b\n");
    expect(first).toMatch(/^job\.yaml:2:1 /);
  });

  test.each([
    ["nothing", "", "job.yaml:1:1 must be of type object, and is null"],
    ["a list", "- a\n", 'job.yaml:1:1 must be of type object, and is ["a"]'],
    ["two documents", `${minimal}---\n${minimal}`, /^job\.yaml:6:1 Source contains multiple documents/],
    ["bytes that are no text", Uint8Array.of(0x6e, 0xff, 0xfe), "job.yaml:1:1 the file is not UTF-8 text"],
    ["more than 1 MiB", `#${"x".repeat(1024 * 1024)}`, "job.yaml:1:1 the file is larger than 1 MiB"],
    ["a map as a key", "{ a: b }: c\n", "job.yaml:1:1 a key must be a word, not a list or a map"],
    ["an alias without anchor", "name: *nobody\n", "job.yaml:1:7 no anchor &nobody before this alias"],
  ])("%s", async (_what, text, expected) => {
    const [first] = await mistakesOf(text);
    if (typeof expected === "string") expect(first).toBe(expected);
    else expect(first).toMatch(expected);
  });

  test("a bomb of aliases ends at once", async () => {
    const levels = Array.from(
      { length: 9 },
      (_, level) => `l${level + 1}: &l${level + 1} [${Array(9).fill(`*l${level}`).join(", ")}]`,
    );
    const [first] = await mistakesOf(`l0: &l0 [x]\n${levels.join("\n")}\n`);
    expect(first).toContain("Excessive alias count");
  });

  test("no file, and a folder", async () => {
    await expect(readJobFile(join(folder, "none.yaml"))).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
    await expect(readJobFile(folder)).rejects.toMatchObject({ code: "FILE_NOT_FOUND" });
  });
});

test("property: an unknown key is found at its own line, wherever it stands and whatever surrounds it", async () => {
  const blocks = ["name: digits", "model: { architecture: cnn }", "data: { source: mnist }", "epochs: 2"];
  const key = fc.stringMatching(/^[a-z]{1,12}$/).filter((name) => !(name in jobSpecSchema.shape));
  await fc.assert(
    fc.asyncProperty(key, fc.nat(4), fc.nat(3), async (stranger, position, commentLines) => {
      const lines = blocks.toSpliced(
        position,
        0,
        ...Array<string>(commentLines).fill("# why"),
        `${stranger}: 1`,
      );
      const [first, ...rest] = await mistakesOf(`${lines.join("\n")}\n`);
      expect(rest).toEqual([]);
      expect(first).toMatch(
        new RegExp(`^job\\.yaml:${position + commentLines + 1}:1 ${stranger}: unknown key`),
      );
    }),
    { numRuns: 50 },
  );
});

test("property: no text makes the reader throw anything but a RingfoldError", async () => {
  const fragment = fc.constantFrom(
    "name",
    ": ",
    "\n",
    "  ",
    "- ",
    "&a ",
    "*a",
    "{",
    "}",
    "[",
    "]",
    "? ",
    "!!x ",
    "---\n",
    '"',
    "|",
    "<<: ",
    "%",
  );
  await fc.assert(
    fc.asyncProperty(fc.array(fragment, { maxLength: 30 }), async (fragments) => {
      await writeFile(path, fragments.join(""));
      await expect(readJobFile(path)).rejects.toBeInstanceOf(RingfoldError);
    }),
    { numRuns: 200 },
  );
});
