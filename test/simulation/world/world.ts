import type { Log } from "../../../protocol/ports.ts";
import { Randomness } from "./randomness.ts";
import { Life, Scheduler } from "./scheduler.ts";

/** A property of the system that did not hold. */
export class Violation extends Error {
  override readonly name = "Violation";
}

const traceLinesKept = 4_000;

/** Time, chance and the record of what happened: what all simulated parts share. */
export class World {
  readonly random: Randomness;
  readonly scheduler: Scheduler;
  readonly startedAtMs: number;
  /** Newest lines of the trace, for a person; kept only when asked for. */
  readonly lines: string[] = [];
  readonly #keepsLines: boolean;
  #hash = 0x811c_9dc5;
  #violation: Violation | undefined;

  readonly #tolerates: RegExp | undefined;

  constructor(options: {
    readonly seed: number;
    readonly keepsLines: boolean;
    /** Properties that are meant to break. */
    readonly tolerates?: RegExp | undefined;
  }) {
    this.#tolerates = options.tolerates;
    this.random = new Randomness(options.seed);
    this.scheduler = new Scheduler(this.random.fork());
    this.startedAtMs = this.scheduler.nowMs;
    this.#keepsLines = options.keepsLines;
  }

  /** Virtual milliseconds since the beginning. */
  get elapsedMs(): number {
    return this.scheduler.nowMs - this.startedAtMs;
  }

  /** FNV-1a over the whole trace: two runs of one seed must agree. */
  get traceHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, "0");
  }

  get violation(): Violation | undefined {
    return this.#violation;
  }

  live(): Life {
    return new Life(this.scheduler);
  }

  trace(line: string): void {
    const text = `${this.elapsedMs.toFixed(3)} ${line}`;
    for (let i = 0; i < text.length; i++)
      this.#hash = Math.imul(this.#hash ^ text.charCodeAt(i), 0x0100_0193);
    if (!this.#keepsLines) return;
    this.lines.push(text);
    if (this.lines.length > traceLinesKept) this.lines.shift();
  }

  /** Records the first broken property; the scenario stops at it. */
  violate(property: string, detail: string): void {
    if (this.#tolerates?.test(property)) return;
    this.trace(`VIOLATION ${property}: ${detail}`);
    this.#violation ??= new Violation(`${property}: ${detail}`);
  }

  /** What the real code logs, as part of the trace. An `error` is a defect: no fault of this world explains one. */
  logOf(who: string): Log {
    const tell = (level: string) => (fields: object, message: string) => {
      const { err } = fields as { err?: { code?: unknown; message?: unknown } };
      this.trace(`${who} ${level} ${message}${err ? ` (${err.code}: ${err.message})` : ""}`);
    };
    return {
      debug: tell("debug"),
      info: tell("info"),
      warn: tell("warn"),
      error: (fields, message) => {
        tell("error")(fields, message);
        const { err } = fields as { err?: { code?: unknown; message?: unknown } };
        if (err?.code === "STORE_FAILED") return; // a fault of the disk, rightly told
        this.violate("no part gives up", `${who}: ${message} (${err?.code}: ${err?.message})`);
      },
    };
  }
}
