import { once } from "node:events";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createAdaptorServer } from "@hono/node-server";
import type { Hono } from "hono";
import type { HttpListener } from "../../agent/agent.ts";
import { RingfoldError } from "../../protocol/errors.ts";

/** Serves a Hono app over HTTP. @throws RingfoldError PORT_IN_USE | CONFIG_INVALID */
export async function listenHttp(
  app: Hono,
  at: { readonly host: string; readonly port: number },
): Promise<HttpListener> {
  const server = createAdaptorServer({ fetch: app.fetch }) as Server;
  server.listen(at.port, at.host);
  try {
    await once(server, "listening");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code === "EADDRINUSE" ? "PORT_IN_USE" : "CONFIG_INVALID";
    throw new RingfoldError(code, `cannot serve HTTP on ${at.host}:${at.port}`, { ...at }, { cause });
  }
  return {
    port: (server.address() as AddressInfo).port,
    close: async () => {
      server.close();
      server.closeAllConnections(); // event streams never end by themselves
      await once(server, "close");
    },
  };
}
