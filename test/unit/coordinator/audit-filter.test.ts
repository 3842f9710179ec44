import { expect, test } from "vitest";
import { type AuditFilter, isWanted } from "../../../coordinator/decide/audit-filter.ts";

const entries: readonly Parameters<typeof isWanted>[0][] = [
  {
    ...{ atMs: 1_000, subject: "job-3 digits", who: { kind: "operator" } },
    event: { kind: "job-submitted", jobId: "job-3" },
  },
  {
    ...{ atMs: 2_000, subject: "agent-1", who: { kind: "peer", peerId: "12D3-one", name: "agent-1" } },
    event: { kind: "member-leaving", detail: "" },
  },
  {
    ...{ atMs: 3_000, subject: "job-3 digits", who: { kind: "coordinator" } },
    event: { kind: "job-looked-at", jobId: "job-3" },
  },
];

test.each<[AuditFilter, number[]]>([
  [{}, [1, 2, 3]],
  [{ sinceMs: 2_000 }, [2, 3]],
  [{ untilMs: 2_000 }, [1, 2]],
  [{ sinceMs: 1_500, untilMs: 2_500 }, [2]],
  [{ job: "job-3" }, [1, 3]],
  [{ who: "operator" }, [1]],
  [{ who: "coordinator" }, [3]],
  [{ who: "peer" }, [2]],
  [{ who: "agent-1" }, [2]],
  [{ who: "12D3-one" }, [2]],
  [{ who: "agent" }, []],
  [{ subject: "digits" }, [1, 3]],
  [{ kind: "member-leaving" }, [2]],
  [{ subject: "digits", who: "coordinator" }, [3]],
])("%j", (filter, found) => {
  expect(entries.flatMap((entry, i) => (isWanted(entry, filter) ? [i + 1] : []))).toEqual(found);
});
