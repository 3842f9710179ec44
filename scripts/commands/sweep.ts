import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import type { SweepSpec } from "../../protocol/sweep-spec.ts";
import type { ApiClient } from "./api-client.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

export function register(program: Command, io: CommandIo): void {
  program
    .command("sweep")
    .argument(
      "<sweep-file>",
      "a job file with `search`, see docs/sweeps.md; or a registered one, as digits@3",
    )
    .description("check a sweep file and submit it: many trials of one job, packed on the agents")
    .option("--follow", "follow the sweep to its end, and show its table", false)
    .action((path: string, _options: unknown, command: Command) =>
      runCommand<{ readonly follow: boolean }>(command, io, async (context, { follow }) => {
        const { connectApi } = await import("./api-client.ts");
        const { value, reference } = await readSweep(path, context);
        const api = await connectApi(context);
        const sweep = await api.submitSweep(value, reference);
        if (follow) {
          context.note(`${sweep.id} submitted: ${sweep.trials.length} trials of ${sweep.name}`);
          return followSweep(api, sweep.id, context);
        }
        const next = [
          `follow: ringfold sweeps follow ${sweep.id}`,
          `cancel: ringfold sweeps cancel ${sweep.id}`,
        ];
        return {
          json: sweep,
          text: [`${sweep.id} submitted: ${sweep.trials.length} trials`, ...next].join("\n"),
        };
      }),
    );
}

async function readSweep(
  path: string,
  context: CommandContext,
): Promise<{ readonly value: SweepSpec; readonly reference?: string }> {
  const { registeredDocument } = await import("../registered-document.ts");
  const { sweepSpecSchema } = await import("../../protocol/sweep-spec.ts");
  const { connectApi } = await import("./api-client.ts");
  const kind = { schema: sweepSpecSchema, code: "JOB_INVALID" } as const;
  const registered = await registeredDocument(path, "config", kind, () => connectApi(context));
  if (registered) return registered;
  const { readSweepFile } = await import("../sweep-file.ts");
  return { value: await readSweepFile(path) };
}

/**
 * Shows a sweep until it ends.
 * @throws RingfoldError JOB_FAILED | CANCELLED (the sweep was cancelled, or Ctrl-C detached us and it goes on)
 */
export async function followSweep(
  api: ApiClient,
  sweepId: string,
  context: CommandContext,
): Promise<CommandResult> {
  const { waitForView } = await import("./follow/cluster-follower.ts");
  const { createSweepProgress } = await import("./follow/sweep-progress.ts");
  const { sweepText } = await import("./present/sweep-text.ts");
  const progress = createSweepProgress({ stream: context.io.stderr, note: context.note, nowMs: Date.now });
  try {
    const state = await waitForView(api, context, async (view) => {
      const sweep = view.sweeps.find(({ id }) => id === sweepId) ?? (await api.sweep(sweepId));
      progress.update(sweep, view.nowMs);
      return sweep.state === "running" ? undefined : sweep.state;
    });
    progress.close();
    const sweep = await api.sweep(sweepId);
    if (state === "succeeded") return { json: sweep, text: sweepText(sweep, Date.now()) };
    const code = state === "cancelled" ? "CANCELLED" : "JOB_FAILED";
    const remedy = `Look at its trials with \`ringfold sweeps show ${sweepId}\`.`;
    throw new RingfoldError(code, `${sweepId} ${sweep.state}: ${sweep.reason}`, { sweepId, remedy });
  } catch (cause) {
    if (!context.signal.aborted) throw cause;
    throw new RingfoldError("CANCELLED", `detached: ${sweepId} goes on`, {
      ...{ sweepId, detached: true },
      remedy: `Follow it again with \`ringfold sweeps follow ${sweepId}\`; end it with \`ringfold sweeps cancel ${sweepId}\`.`,
    });
  } finally {
    progress.close();
  }
}
