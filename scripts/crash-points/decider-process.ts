import { writeSync } from "node:fs";
import { argv } from "node:process";
import { DecisionLog } from "../../coordinator/decision-log.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { systemClock } from "../../protocol/ports.ts";
import { decisionOf, decisionsKept } from "./content.ts";

/**
 * A program: decides over a real store until it is killed, and says the number of each decision on stdout once it is
 * acknowledged. It ends with the code of the error when the store takes no more. Argument: the path of the store.
 */
const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** Returns when it is said: a full pipe is waited for. */
function say(line: string): void {
  for (;;) {
    try {
      writeSync(1, `${line}\n`);
      return;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EAGAIN") throw cause;
    }
  }
}

try {
  const store = await openLmdbStore(argv[2]!);
  const log = new DecisionLog({ store, clock: systemClock, log: quiet, term: 1, kept: decisionsKept });
  let { last } = log.page({ after: 0, sinceMs: 0, limit: 1 });
  say("open");
  for (;;) {
    const { decision, writes } = decisionOf(++last);
    await log.commit(decision, writes);
    say(`${last}`); // at once: what is said was acknowledged, and what was acknowledged is said
  }
} catch (cause) {
  say(cause instanceof RingfoldError ? cause.code : String(cause));
}
