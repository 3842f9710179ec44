import { Hono } from "hono";
import { pageHeaders } from "../../coordinator/api/page-headers.ts";
import { refuse } from "../../coordinator/api/refusal.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Readiness } from "../../protocol/messages/api.ts";
import { serveDashboard } from "./dashboard-files.ts";

/** What a coordinator that stands by answers: the page, which goes to who leads by itself, and to all else who that is. */
export function standbyApi({
  leader,
  coordinatorUrls,
}: {
  /** HTTP address; empty while nobody is known to lead. */
  readonly leader: () => string;
  readonly coordinatorUrls: () => readonly string[];
}): Hono {
  const app = new Hono();
  app.use(pageHeaders(coordinatorUrls));
  const state = () =>
    leader() === ""
      ? "this coordinator stands by, and nobody leads"
      : `this coordinator stands by; ${leader()} leads`;
  app.get("/healthz", (c) => c.json({ live: true }));
  app.get("/readyz", (c) => {
    const readiness: Readiness = {
      ...{ ready: false, standby: true, reasons: [state()], coordinators: [...coordinatorUrls()] },
      ...(leader() !== "" && { leader: leader() }),
    };
    return c.json(readiness, 503);
  });
  app.all("/api/*", () => refuse(standsBy(state(), leader())));
  serveDashboard(app);
  app.notFound(() => refuse(standsBy(state(), leader())));
  return app;
}

const standsBy = (state: string, leader: string): RingfoldError =>
  leader === ""
    ? new RingfoldError("COORDINATOR_STANDBY", state, { remedy: "Ask again in a few seconds." })
    : new RingfoldError("COORDINATOR_STANDBY", state, {
        leader,
        remedy: `Ask the one that leads: --coordinator ${leader}`,
      });
