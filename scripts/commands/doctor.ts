import { join } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import type { NamedFinding } from "../doctor/finding.ts";
import { type Endpoint, endpointOption, positiveInteger } from "./arguments.ts";
import { type CommandContext, type CommandIo, ringfoldHome, runCommand } from "./command.ts";

interface DoctorOptions {
  readonly data?: string;
  readonly listen: Endpoint;
  readonly gateway: Endpoint;
  readonly python?: string;
  readonly deadline: number;
  readonly only: readonly Group[];
}

/** What checks are about, in the order in which they are made. */
const groups = ["machine", "network", "compute", "cluster"] as const;
type Group = (typeof groups)[number];

function groupList(text: string): readonly Group[] {
  const named = text.split(",");
  const stranger = named.find((name) => !groups.some((group) => group === name));
  if (stranger !== undefined)
    throw new InvalidArgumentError(`Give some of ${groups.join(",")}, not '${stranger}'.`);
  return groups.filter((group) => named.includes(group));
}

export function register(program: Command, io: CommandIo): void {
  program
    .command("doctor")
    .description("look at what this machine needs to be a member, and say what is missing")
    .option("--data <folder>", "the agent's folder; ~/.ringfold/agent unless told")
    .addOption(endpointOption("--listen <host:port>", "where its agent is to be reached", "0.0.0.0:0"))
    .addOption(endpointOption("--gateway <host:port>", "where it is to answer predictions", "127.0.0.1:7080"))
    .option("--python <path>", "the Python to run scripts with; the agent's own unless told")
    .option("--deadline <seconds>", "how long one check may take", positiveInteger, 60)
    .option(
      "--only <groups>",
      `some of ${groups.join(",")}; without cluster no coordinator is asked`,
      groupList,
      groups,
    )
    .action((_options: unknown, command: Command) =>
      runCommand<DoctorOptions>(command, io, async (context, options) => {
        const findings = await examine(context, options);
        const failed = findings.filter(({ verdict }) => verdict === "fail");
        if (failed.length > 0) io.exitCode.value = 1;
        return { json: { healthy: failed.length === 0, findings }, text: await findingTable(findings) };
      }),
    );
}

async function examine(context: CommandContext, options: DoctorOptions): Promise<NamedFinding[]> {
  const { machineChecks } = await import("../doctor/machine-checks.ts");
  const { networkChecks } = await import("../doctor/network-checks.ts");
  const { computeChecks } = await import("../doctor/compute-checks.ts");
  const { runChecks } = await import("../doctor/finding.ts");
  const dataPath = options.data ?? join(ringfoldHome(context.io.env), "agent");
  const checksOf = {
    machine: () => machineChecks(dataPath),
    network: () => networkChecks(options),
    compute: () => computeChecks({ dataPath, python: options.python }),
    cluster: () => [],
  };
  const checks = options.only.flatMap((group) => checksOf[group]());
  const { common, io, signal, note } = context;
  const shown = io.stderr.isTTY === true && !common.json;
  const run = {
    signal,
    deadlineMs: 1_000 * options.deadline,
    onFinding: ({ check, verdict }: NamedFinding) => shown && note(`${check}: ${verdict}`),
  };
  const findings = await runChecks(checks, run);
  if (!options.only.includes("cluster")) return findings;

  const { clusterChecks } = await import("../doctor/cluster-checks.ts");
  const { connectApi } = await import("./api-client.ts");
  const api = await connectApi(context);
  const [first, ...rest] = clusterChecks({ api, signal, dataPath, listen: options.listen });
  const coordinator = await runChecks([first!], run);
  // Without a coordinator every further check would say the same once more.
  if (coordinator[0]?.verdict === "fail") return [...findings, ...coordinator];
  return [...findings, ...coordinator, ...(await runChecks(rest, run))];
}

async function findingTable(findings: readonly NamedFinding[]): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  const rows = findings.flatMap(({ check, verdict, detail, remedy }) => [
    [verdict === "info" ? "-" : verdict, check, detail],
    ...(remedy === "" ? [] : [["", "", `→ ${remedy}`]]),
  ]);
  return formatTable(["", "check", "finding"], rows);
}
