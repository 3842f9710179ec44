import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import { preparationSchema } from "../../protocol/preparation.ts";
import { sweepSpecSchema } from "../../protocol/sweep-spec.ts";

const folder = fileURLToPath(new URL("../../examples/", import.meta.url));
const jobFiles = globSync("**/*.yaml", { cwd: folder }).filter((path) => !path.endsWith("pipeline.yaml"));

/** Their data is not here; test/long/examples.test.ts runs them on data that is. */
test.each(jobFiles)(
  "examples/%s is a job file but for its data, and the table of examples has it",
  (path) => {
    const job = parse(readFileSync(`${folder}${path}`, "utf8"));
    const schema = "search" in job ? sweepSpecSchema : jobSpecSchema;
    expect(schema.safeParse({ ...job, data: { source: "mnist" } }).error).toBeUndefined();
    const table = readFileSync(new URL("../../docs/examples.md", import.meta.url), "utf8");
    expect(table).toContain(`examples/${path}`);
  },
);

test.each(globSync("**/*pipeline*.yaml", { cwd: folder }))("examples/%s is a pipeline", (path) => {
  expect(preparationSchema.safeParse(parse(readFileSync(`${folder}${path}`, "utf8"))).error).toBeUndefined();
});
