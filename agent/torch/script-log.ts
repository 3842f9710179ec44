import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { limits } from "../../protocol/limits.ts";
import { type JobLogAnswer, readJobLog } from "../../protocol/messages/job-log.ts";
import type { ClusterNetwork } from "../../protocol/ports.ts";
import type { TermFence } from "../membership/term-fence.ts";

/**
 * What a job's script has printed on this machine, over all of its lives: the newest of it, in two files of which the older
 * one goes when the newer is full. Places in it are counted from the first byte ever printed; the older file's name tells
 * where it ends.
 */

const newestName = "output.log";
const olderName = (end: number): string => `output-${end}.log`;
const partBytes = limits.scriptLogBytes / 2;

/** Where the newest file begins. */
const newestStart = (folder: string): number =>
  Math.max(0, ...readdirSync(folder).map((name) => Number(/^output-(\d+)\.log$/.exec(name)?.[1] ?? 0)));

export class ScriptLog {
  readonly path: string;
  readonly #folder: string;
  readonly #partBytes: number;
  #start: number;
  /** Undefined where the next part could not be made. */
  #file: number | undefined;
  #size: number;

  /** Goes on behind what is there. */
  constructor(folder: string, options: { readonly partBytes?: number } = {}) {
    this.#folder = folder;
    this.#partBytes = options.partBytes ?? partBytes;
    this.path = join(folder, newestName);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    this.#start = newestStart(folder);
    this.#file = openSync(this.path, "a", 0o600);
    this.#size = fstatSync(this.#file).size;
  }

  /** What cannot be written is lost: a full disk is no reason to end a training. */
  write(bytes: Uint8Array): void {
    try {
      if (this.#size > 0 && this.#size + bytes.length > this.#partBytes) this.#turn();
      if (this.#file !== undefined) this.#size += writeSync(this.#file, bytes);
    } catch (cause) {
      if (!isDiskError(cause)) throw cause;
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #turn(): void {
    this.close();
    const end = this.#start + this.#size;
    renameSync(this.path, join(this.#folder, olderName(end)));
    rmSync(join(this.#folder, olderName(this.#start)), { force: true });
    this.#start = end;
    this.#size = 0;
    this.#file = openSync(this.path, "a", 0o600);
  }
}

const isDiskError = (cause: unknown): boolean =>
  ["ENOSPC", "EDQUOT", "EIO", "EROFS"].includes((cause as NodeJS.ErrnoException).code ?? "");

interface Stretch {
  readonly bytes: Buffer;
  readonly start: number;
  /** Of the whole log. */
  readonly end: number;
  /** More is kept ahead of it, and was not asked for. */
  readonly isTail: boolean;
}

/** What is kept of a log from `after` on; its end where `after` is negative. Ends with a whole character. */
export function readScriptLog(
  folder: string,
  {
    after,
    bytesMax,
    isOver,
  }: { readonly after: number; readonly bytesMax: number; readonly isOver: boolean },
): JobLogAnswer {
  const { bytes, start, end, isTail } = readStretch(folder, after, bytesMax);
  const isLast = start + bytes.length === end;
  // The rest of a character that is being written comes with the next piece; between the two files it may be cut.
  const length = isLast && isOver ? bytes.length : wholeCharacters(bytes);
  const whole = length === 0 && !isLast ? bytes : bytes.subarray(0, length);
  const cut = isTail ? whole.indexOf(10) + 1 : 0; // the first line is a part of one
  const next = start + whole.length;
  return { text: whole.toString("utf8", cut), start: start + cut, next, hasMore: !isLast, isOver };
}

function readStretch(folder: string, after: number, bytesMax: number): Stretch {
  for (;;) {
    let newestAt: number;
    try {
      newestAt = newestStart(folder);
    } catch {
      return { bytes: Buffer.alloc(0), start: 0, end: 0, isTail: false }; // nothing of that job was ever here
    }
    const files = [olderName(newestAt), newestName].map((name) => openToRead(join(folder, name)));
    try {
      // The log may have turned in between: then these are other files than we take them for.
      if (newestStart(folder) !== newestAt) continue;
      const [olderSize, newestSize] = files.map((file) => (file === undefined ? 0 : fstatSync(file).size));
      const first = newestAt - olderSize!;
      const end = newestAt + newestSize!;
      const start = Math.min(end, Math.max(first, after < 0 ? end + after : after));
      const isOlder = start < newestAt;
      const count = Math.min(bytesMax, (isOlder ? newestAt : end) - start);
      const bytes = Buffer.alloc(count);
      const file = files[isOlder ? 0 : 1];
      const read = count === 0 ? 0 : readSync(file!, bytes, 0, count, start - (isOlder ? first : newestAt));
      return { bytes: bytes.subarray(0, read), start, end, isTail: after < 0 && start > first };
    } finally {
      for (const file of files) if (file !== undefined) closeSync(file);
    }
  }
}

function openToRead(path: string): number | undefined {
  try {
    return openSync(path, "r");
  } catch {
    return undefined; // nothing was printed yet, or it went when the log turned
  }
}

/** Length without a character at the end that has not all of its bytes. Source: RFC 3629, section 3. */
function wholeCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte < 0x80) return bytes.length;
    if (byte < 0xc0) continue; // inside of one
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return length > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** Lets the coordinator read the logs of jobs' scripts. */
export function serveScriptLogs(
  network: ClusterNetwork,
  {
    fence,
    folder,
    runs,
  }: {
    readonly fence: TermFence;
    /** With one folder a job. */
    readonly folder: string;
    /** Whether a trainer of this job runs here. */
    readonly runs: (jobId: string) => boolean;
  },
): void {
  network.handle(readJobLog, async ({ term, jobId, after, bytesMax }, { from }) => {
    fence.check(term, from);
    const isOver = !runs(jobId); // asked first: what is printed until then is there
    return readScriptLog(join(folder, jobId), { after, bytesMax, isOver });
  });
}
