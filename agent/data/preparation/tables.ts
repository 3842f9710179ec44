import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { DuckDBConnection } from "@duckdb/node-api";
import { RingfoldError } from "../../../protocol/errors.ts";
import { openTableFolder } from "./table-folder.ts";

export type Cell = string | number | bigint | boolean | null;

/**
 * A table engine of its own for one preparation: DuckDB on files of a temporary folder, so that a source may be larger
 * than memory. One thread and rows in their order: sums come out with the same bits each time.
 */
export class Tables {
  readonly #connection: DuckDBConnection;
  readonly #folder: string;
  readonly #closeInstance: () => void;

  /** @throws RingfoldError ENGINE_UNAVAILABLE where its binary does not run */
  static async open(): Promise<Tables> {
    const duckdb = await import("@duckdb/node-api").catch((cause: unknown) => {
      throw new RingfoldError(
        "ENGINE_UNAVAILABLE",
        "the table engine (DuckDB) does not run on this machine",
        { remedy: "Run `npm install` anew, or add the data on another machine." },
        { cause },
      );
    });
    const folder = await openTableFolder();
    try {
      const instance = await duckdb.DuckDBInstance.create(join(folder, "tables.duckdb"), {
        threads: "1",
        memory_limit: "1GB",
        // Nothing is loaded from elsewhere, whatever a file asks for.
        autoinstall_known_extensions: "false",
        autoload_known_extensions: "false",
      });
      return new Tables(await instance.connect(), folder, () => instance.closeSync());
    } catch (cause) {
      await rm(folder, { recursive: true, force: true });
      throw cause;
    }
  }

  private constructor(connection: DuckDBConnection, folder: string, closeInstance: () => void) {
    this.#connection = connection;
    this.#folder = folder;
    this.#closeInstance = closeInstance;
  }

  /** A place for files that end with the preparation. */
  path(name: string): string {
    return join(this.#folder, name);
  }

  /** Runs statements that answer nothing. @throws whatever the engine throws; ends with the signal */
  async run(sql: string, signal?: AbortSignal): Promise<void> {
    const stop = () => this.#connection.interrupt();
    signal?.throwIfAborted();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      await this.#connection.run(sql);
    } catch (cause) {
      signal?.throwIfAborted();
      throw cause;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  /** All rows of a small answer. */
  async rows(sql: string): Promise<Cell[][]> {
    const reader = await this.#connection.runAndReadAll(sql);
    return reader.getRows() as Cell[][];
  }

  /** The only row of an answer that has one. */
  async row(sql: string): Promise<Cell[]> {
    return (await this.rows(sql))[0] ?? [];
  }

  /** Rows of a large answer, a few thousand at a time. */
  async *stream(sql: string): AsyncGenerator<Cell[][]> {
    const result = await this.#connection.stream(sql);
    for (;;) {
      const chunk = await result.fetchChunk();
      if (!chunk || chunk.rowCount === 0) return;
      yield chunk.getRows() as Cell[][];
    }
  }

  async close(): Promise<void> {
    this.#connection.closeSync();
    this.#closeInstance();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** A name as SQL takes it. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;
/** A text as SQL takes it. */
export const text = (value: string): string => `'${value.replaceAll("'", "''")}'`;
/** A number as SQL takes it, with all its bits: a bare literal would be a decimal. */
export const double = (value: number): string => `CAST('${value}' AS DOUBLE)`;

/** Columns of our own beside those of the source. */
export const own = { row: '"#row"', isTest: '"#test"', place: '"#place"' } as const;
