import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { serveStatic } from "@hono/node-server/serve-static";
import type { Hono } from "hono";

export function serveDashboard(app: Hono): void {
  const root = fileURLToPath(new URL("../../dashboard/dist", import.meta.url));
  if (existsSync(join(root, "index.html"))) app.use("/*", serveStatic({ root }));
  else
    app.get("/", (c) =>
      c.text("The dashboard is not built yet: run `npm run build:dashboard` and reload.\n", 503),
    );
}
