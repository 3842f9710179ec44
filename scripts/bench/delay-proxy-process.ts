import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/**
 * Latency for TCP on loopback, in user space: whatever connects to one of its ports is connected to a target, and bytes
 * arrive so much later in either direction, as many a second as they come. A timer is up to a millisecond late, and so are
 * they; a benchmark measures what comes out.
 */
export type ToProxy =
  | { readonly kind: "open"; readonly targets: readonly number[]; readonly latencyMs: number }
  | { readonly kind: "close" };

const servers = new Set<ReturnType<typeof createServer>>();
const sockets = new Set<Socket>();

process.on("disconnect", () => process.exit(0));
process.on("message", (message: ToProxy) => {
  if (message.kind === "open") void openAll(message).then((ports) => process.send?.(ports));
  else {
    for (const server of servers) server.close();
    for (const socket of sockets) socket.destroy();
    process.disconnect();
  }
});

/** @returns a port for each target */
const openAll = ({
  targets,
  latencyMs,
}: {
  readonly targets: readonly number[];
  readonly latencyMs: number;
}) => Promise.all(targets.map((target) => openOne(target, latencyMs)));

async function openOne(target: number, latencyMs: number): Promise<number> {
  const server = createServer({ noDelay: true }, (near) => {
    const far = connect({ port: target, host: "127.0.0.1", noDelay: true });
    delayed(near, far, latencyMs);
    delayed(far, near, latencyMs);
  });
  servers.add(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

function delayed(from: Socket, to: Socket, latencyMs: number): void {
  sockets.add(from);
  const queue: { readonly chunk: Buffer; readonly dueMs: number }[] = [];
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    timer = undefined;
    while (queue.length > 0 && queue[0]!.dueMs <= performance.now()) to.write(queue.shift()!.chunk);
    if (queue.length > 0) timer = setTimeout(flush, Math.max(0, queue[0]!.dueMs - performance.now()));
  };
  from.on("data", (chunk: Buffer) => {
    if (latencyMs === 0) return void to.write(chunk);
    queue.push({ chunk, dueMs: performance.now() + latencyMs });
    timer ??= setTimeout(flush, latencyMs);
  });
  from.on("error", () => {});
  from.on("close", () => {
    clearTimeout(timer);
    sockets.delete(from);
    to.destroy();
  });
}
