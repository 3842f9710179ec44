import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import type { Route } from "../../../protocol/api/route.ts";
import { routes } from "../../../protocol/api/routes.ts";
import { errorRules } from "../../../protocol/errors.ts";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";
import { readJobFile } from "../../../scripts/job-file.ts";
import { runRingfold } from "./ringfold-process.ts";

vi.setConfig({ testTimeout: 240_000 }); // a process a command, on machines that do other things too

const readDocument = (name: string) => readFile(new URL(`../../../docs/${name}`, import.meta.url), "utf8");

describe("docs/cli.md", () => {
  test("lists every exit code with exactly the error codes that have it", async () => {
    const text = await readDocument("cli.md");
    const documented = [...text.matchAll(/^\| +(\d+) +\| .+ \| (.+?) +\|$/gm)].map(([, exit, codes]) => [
      Number(exit),
      codes?.replaceAll("`", "").split(" ").sort(),
    ]);
    const byExit = Map.groupBy(Object.entries(errorRules), ([, { exit }]) => exit);
    const actual = [...byExit].map(([exit, entries]) => [exit, entries.map(([code]) => code).sort()]);
    expect(documented).toEqual(actual.sort(([a], [b]) => Number(a) - Number(b)));
  });

  test("describes every command that the help lists, with every option", async () => {
    const text = await readDocument("cli.md");
    for (const { path, help } of await commandHelps([])) {
      expect(text, `no \`ringfold ${path.join(" ")}\``).toContain(`ringfold ${path.join(" ")}`);
      for (const [option] of help.matchAll(/(?<=^ .*)--[a-z-]+/gm)) {
        expect(text, `${path.join(" ")} ${option}`).toContain(option);
      }
    }
  });
});

describe("docs/api.md", () => {
  test("names each route of the table, with its method, and no other", async () => {
    const text = await readDocument("api.md");
    const documented = [...text.matchAll(/^\| `([A-Z]+) (\/[^`]*)` /gm)].map(
      ([, method, path]) => `${method} ${path}`,
    );
    const actual = Object.values(routes).map(({ method, path }) => `${method} ${path}`);
    expect(new Set(documented)).toEqual(new Set(actual));
    expect(documented).toHaveLength(actual.length);
  });

  test("says of each POST whether it takes a key", async () => {
    const text = await readDocument("api.md");
    for (const route of Object.values(routes) as Route[]) {
      const row = text.split("\n").find((line) => line.startsWith(`| \`${route.method} ${route.path}\` `));
      expect(row?.includes("Idempotency-Key"), route.path).toBe(route.once === true);
      expect(row?.includes("If-Match"), route.path).toBe(route.conditional === true);
    }
  });
});

interface CommandHelp {
  readonly path: readonly string[];
  readonly help: string;
}

/** The commands below one, and those below them, each with its help; every process is started once, two at a time. */
async function commandHelps(above: readonly string[], helpAbove?: string): Promise<CommandHelp[]> {
  const help = helpAbove ?? (await runRingfold(["--help"])).stdout;
  const [, list = ""] = help.split("\nCommands:\n");
  const names = [...list.matchAll(/^ {2}([a-z]+)/gm)].flatMap(([, name]) => name ?? []);
  const paths = names.filter((found) => found !== "help").map((name) => [...above, name]);
  const helps: CommandHelp[] = [];
  for (let i = 0; i < paths.length; i += 2) {
    helps.push(
      ...(await Promise.all(
        paths
          .slice(i, i + 2)
          .map(async (path) => ({ path, help: (await runRingfold([...path, "--help"])).stdout })),
      )),
    );
  }
  const below: CommandHelp[] = [];
  for (const each of helps) below.push(each, ...(await commandHelps(each.path, each.help)));
  return below;
}

interface ObjectSchema {
  readonly properties?: Readonly<Record<string, ObjectSchema>>;
  readonly oneOf?: readonly ObjectSchema[];
}

/** Every key of the schema with the keys above it. */
function* keysOf(schema: ObjectSchema, above: readonly string[] = []): Generator<readonly string[]> {
  for (const shape of schema.oneOf ?? []) yield* keysOf(shape, above);
  for (const [key, inner] of Object.entries(schema.properties ?? {})) {
    yield [...above, key];
    yield* keysOf(inner, [...above, key]);
  }
}

describe("docs/job-file.md", () => {
  test("explains every key of the schema, in its own section where it has one", async () => {
    const text = await readDocument("job-file.md");
    const sections = new Map(
      text.split("\n## ").map((section) => [section.split("\n", 1)[0] ?? "", section]),
    );
    const keys = [...keysOf(z.toJSONSchema(jobSpecSchema, { io: "input" }) as ObjectSchema)];
    expect(keys.length).toBeGreaterThan(30);
    for (const path of keys) {
      const [first = "", last] = path;
      const section = sections.get(first);
      const place = last !== undefined && section !== undefined ? section : sections.get("Keys");
      const names =
        last === undefined
          ? [`| \`${first}\``, `| \`${first}.`]
          : section === undefined
            ? [`| \`${path.join(".")}\``]
            : [`| \`${last}\``, `\`${first}.${last}\``, `\`${last}: `];
      expect(
        names.some((name) => place?.includes(name)),
        path.join("."),
      ).toBe(true);
    }
  });

  test("its examples are what it says: defaults that are the schema's, and files that can be read", async () => {
    const text = await readDocument("job-file.md");
    const examples = [...text.matchAll(/```yaml\n([^`]*)```/g)].flatMap(([, example]) => example ?? []);
    const [shortest, full, ...parts] = examples;
    const schemaDefaults = jobSpecSchema.parse(parse(shortest ?? ""));
    expect(parse(full ?? "")).toEqual(schemaDefaults);

    const folder = await mkdtemp(join(tmpdir(), "ringfold-documents-"));
    try {
      const base = parse(shortest ?? "") as object;
      for (const part of parts) {
        await writeFile(join(folder, "job.yaml"), JSON.stringify({ ...base, ...(parse(part) as object) }));
        await expect(readJobFile(join(folder, "job.yaml"))).resolves.toHaveProperty("name", "digits");
      }
      expect(parts).toHaveLength(6);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
