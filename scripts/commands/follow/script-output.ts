import { setTimeout as delay } from "node:timers/promises";
import { stripVTControlCharacters } from "node:util";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { JobView } from "../../../protocol/messages/api.ts";
import type { JobLogs } from "../../../protocol/messages/job-log.ts";
import type { ApiClient } from "../api-client.ts";

/** One line that a rank has printed. */
export interface ScriptLine {
  /** Name of the agent. */
  readonly agent: string;
  readonly rank: number | null;
  readonly text: string;
}

interface OutputOptions {
  readonly api: Pick<ApiClient, "jobLogs">;
  readonly jobId: string;
  /** Only of this rank. */
  readonly rank?: number | undefined;
  readonly onLine: (line: ScriptLine) => void;
  readonly signal: AbortSignal;
}

/** How often new lines are asked for: live to a person, and one small request to each rank. */
const pollIntervalMs = 500;
/** A coordinator that restarts is back sooner; then somebody who only reads gives up. */
const unreachableMaxMs = 120_000;
/** What is printed without an end of line is shown in pieces of this length. */
const lineCharactersMax = 64 * 1024;

/**
 * Shows what the scripts of a job print, by lines, in the order in which each rank prints them: all that is kept, and with
 * `follow` what comes until the job is over.
 * @throws RingfoldError as the API client; CANCELLED when the signal aborts
 */
export async function showScriptOutput(options: OutputOptions, { follow }: { readonly follow: boolean }) {
  const { api, jobId, signal } = options;
  const lines = new Lines(options);
  let heardMs = performance.now();
  for (let after: string | undefined; ; ) {
    const logs = await api.jobLogs(jobId, after === undefined ? {} : { after }).catch((cause: unknown) => {
      signal.throwIfAborted();
      const mayPass = follow && cause instanceof RingfoldError && cause.rule.retryable;
      if (!mayPass || performance.now() - heardMs > unreachableMaxMs) throw cause;
      return undefined;
    });
    if (logs) {
      heardMs = performance.now();
      after = logs.next;
      lines.take(logs);
      if (!logs.hasMore && (logs.isOver || !follow)) return lines.end();
      if (logs.hasMore) continue;
    }
    await delay(pollIntervalMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** The last lines of the rank whose script has failed: its traceback. Empty where nobody can tell. */
export async function lastWords(api: Pick<ApiClient, "jobLogs">, job: JobView): Promise<readonly string[]> {
  const { pieces } = await api.jobLogs(job.id, { tail: 8_192 });
  const failed = pieces.filter(({ name }) => job.reason.startsWith(`${name}: `));
  return (failed.length > 0 ? failed : pieces).flatMap(({ name, rank, text }) =>
    text
      .trimEnd()
      .split("\n")
      .slice(-lastLines)
      .map((line) => lineText({ agent: name, rank, text: shown(line) })),
  );
}

const lastLines = 30;

/** As torchrun does: who says it, then what. */
export const lineText = ({ agent, rank, text }: ScriptLine): string =>
  `[${rank === null ? agent : `rank ${rank} ${agent}`}] ${text}`;

/** Pieces become lines; the end of one may come with the next piece. */
class Lines {
  readonly #options: OutputOptions;
  readonly #rests = new Map<string, ScriptLine>();

  constructor(options: OutputOptions) {
    this.#options = options;
  }

  take({ pieces }: JobLogs): void {
    for (const { peerId, name, rank, text, skippedBytes } of pieces) {
      const say = (line: string) => this.#say({ agent: name, rank, text: line });
      if (skippedBytes > 0) {
        say(`${this.#rests.get(peerId)?.text ?? ""} [${skippedBytes} bytes are no longer kept]`);
        this.#rests.delete(peerId);
      }
      const lines = `${this.#rests.get(peerId)?.text ?? ""}${text}`.split("\n");
      let rest = lines.pop() ?? "";
      for (const line of lines) say(line);
      if (rest.length > lineCharactersMax) {
        say(rest);
        rest = "";
      }
      this.#rests.set(peerId, { agent: name, rank, text: rest });
    }
  }

  end(): void {
    for (const rest of this.#rests.values()) if (rest.text !== "") this.#say(rest);
  }

  #say(line: ScriptLine): void {
    const { rank, onLine } = this.#options;
    if (rank === undefined || line.rank === rank) onLine({ ...line, text: shown(line.text) });
  }
}

/** What a terminal would show of a line that is written over, without colours; nothing in it drives ours. */
const shown = (line: string): string =>
  stripVTControlCharacters(line.trimEnd().split("\r").at(-1) ?? "").replace(/[^\P{Cc}\t]/gu, "\u{fffd}");
