import { describe, expect, test } from "vitest";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";
import { labelsSchema, needsSchema, needWords } from "../../../protocol/needs.ts";
import { parseSize, sizeText } from "../../../protocol/size.ts";

describe("a size", () => {
  test.each([
    ["8GB", 8e9, "8 GB"],
    ["8 GB", 8e9, "8 GB"],
    ["8.5GB", 8.5e9, "8.5 GB"],
    ["1.5TB", 1.5e12, "1.5 TB"],
    ["8GiB", 8 * 2 ** 30, "8 GiB"],
    ["1.25GiB", 1.25 * 2 ** 30, "1.25 GiB"],
    ["512MiB", 2 ** 29, "512 MiB"],
    ["24000MB", 24e9, "24 GB"],
  ])("%s is %d bytes, and reads %s", (text, bytes, shown) => {
    expect(parseSize(text)).toBe(bytes);
    expect(sizeText(bytes)).toBe(shown);
  });

  test.each(["8", "8G", "8Gb", "8gb", "8 gigabytes", "-8GB", "8e9", "1,5GB", "8KB", "1.2345GB", ""])(
    "%j is none: units are not guessed",
    (text) => expect(parseSize(text)).toBeUndefined(),
  );

  test("that nobody wrote is rounded", () => {
    expect([24_564 * 2 ** 20, 81_559 * 2 ** 20, 1_234_567, 12].map(sizeText)).toEqual([
      "25.8 GB",
      "85.5 GB",
      "1.2 MB",
      "0.0 MB",
    ]);
  });
});

describe("needs", () => {
  test("are bytes inside, and stay what they are when they are read again", () => {
    const needs = needsSchema.parse({
      ...{ gpuMemory: "8GB", memory: "16GiB", cores: 4, labels: { room: "a", rack: 3 } },
    });
    expect(needs).toEqual({
      ...{ gpuMemory: 8e9, memory: 2 ** 34, cores: 4, labels: { room: "a", rack: "3" } },
    });
    expect(needsSchema.parse(needs)).toEqual(needs);
    expect(needWords(needs)).toEqual([
      ...["8 GB GPU memory", "16 GiB memory", "4 cores", "label room=a", "label rack=3"],
    ]);
  });

  test.each([
    [{ gpuMemory: "8G" }, '"8G": give a size with its unit, such as 8GB (10^9 bytes each) or 8GiB (2^30)'],
    [
      { gpuMemory: 8 },
      "8: give a size with its unit, such as 8GB (10^9 bytes each) or 8GiB (2^30), and no less than 1MB",
    ],
    [{ memory: true }, "give a size with its unit, such as 8GB (10^9 bytes each) or 8GiB (2^30)"],
    [
      { labels: { "a b": "c" } },
      "use 1-63 letters, digits, dots, dashes and underscores, with a letter or digit at both ends",
    ],
    [
      { labels: { room: "" } },
      "use 1-63 letters, digits, dots, dashes and underscores, with a letter or digit at both ends",
    ],
  ])("%j is refused with what to write", (needs, message) => {
    expect(needsSchema.safeParse(needs).error?.issues.map((issue) => issue.message)).toEqual([message]);
  });

  test("labels are bounded", () => {
    const labels = (count: number) =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`l${i}`, "x"]));
    expect(labelsSchema.safeParse(labels(32)).success).toBe(true);
    expect(labelsSchema.safeParse(labels(33)).error?.issues[0]?.message).toBe("no more than 32 labels");
  });

  test.each([
    ["wasm", false],
    ["cpu", false],
    ["auto", true],
    ["webgpu", true],
  ])("GPU memory with engine %s may be asked for: %s", (engine, allowed) => {
    const job = { name: "digits", model: { architecture: "cnn" }, data: { source: "mnist" }, engine };
    const { error } = jobSpecSchema.safeParse({ ...job, needs: { gpuMemory: "8GB" } });
    expect(error?.issues.map(({ path }) => path)).toEqual(allowed ? undefined : [["needs"]]);
  });
});
