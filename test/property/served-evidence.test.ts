import fc from "fast-check";
import { expect, test } from "vitest";
import { errorCount } from "../../coordinator/decide/served-counts.ts";
import { ServedEvidence } from "../../coordinator/served-evidence.ts";
import { latencyCount } from "../../protocol/latency-histogram.ts";
import { served } from "../fixtures/served.ts";

/** What happens at one gateway: it answers, its beat arrives so often (0: it is lost), or its process begins anew. */
const happening = fc.record({
  gateway: fc.nat(3),
  answered: fc.nat(30),
  failed: fc.nat(5),
  arrives: fc.constantFrom(0, 1, 1, 2),
  dies: fc.boolean(),
});

test("whatever beats are lost or doubled and whichever gateways begin anew, what was told adds up", () => {
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 60 }), (story) => {
      const evidence = new ServedEvidence();
      evidence.begin([1]);
      const gateways = Array.from({ length: 4 }, () => ({
        life: 0,
        answered: 0,
        failed: 0,
        told: { answered: 0, failed: 0 },
      }));
      const beat = (index: number) => {
        const gateway = gateways[index]!;
        const counts = served(gateway.answered + gateway.failed, { failed: gateway.failed });
        evidence.hear(`gateway ${index}`, `life ${gateway.life}`, [{ deployment: 1, ...counts }]);
        gateway.told = { answered: gateway.answered, failed: gateway.failed };
      };
      for (const index of gateways.keys()) beat(index);
      /** Of lives that are over: as far as they came to tell. */
      const past = { answered: 0, failed: 0 };
      for (const { gateway: index, answered, failed, arrives, dies } of story) {
        const gateway = gateways[index]!;
        gateway.answered += answered;
        gateway.failed += failed;
        for (let i = 0; i < arrives; i++) beat(index);
        if (!dies) continue;
        past.answered += gateway.told.answered;
        past.failed += gateway.told.failed;
        gateways[index] = {
          life: gateway.life + 1,
          answered: 0,
          failed: 0,
          told: { answered: 0, failed: 0 },
        };
      }
      const sum = (of: "answered" | "failed") => gateways.reduce((all, { told }) => all + told[of], past[of]);
      const total = evidence.of(1);
      expect(total.requests).toBe(sum("answered") + sum("failed"));
      expect(errorCount(total)).toBe(sum("failed"));
      expect(latencyCount(total.latency)).toBe(sum("answered"));
    }),
  );
});
