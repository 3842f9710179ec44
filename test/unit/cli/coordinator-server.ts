import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { ClusterView } from "../../../protocol/messages/api.ts";

interface ReceivedRequest {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly idempotencyKey: string | string[] | undefined;
  readonly body: unknown;
}

/** What a route answers; a status of 400 and more goes out as problem+json. */
interface Answer {
  readonly status?: number;
  readonly body: unknown;
}

/** "cut": the connection breaks without an answer. */
type Route = (request: ReceivedRequest) => Answer | "cut";

/**
 * A real HTTP server on a free port that speaks the coordinator's API: routes answer from a table, who accepts an
 * event stream gets the events that the test publishes.
 */
export interface CoordinatorServer extends AsyncDisposable {
  readonly url: string;
  readonly requests: readonly ReceivedRequest[];
  /**
   * Key: `GET /api/peers`, with the query or without. Without an entry: 404 with code NOT_FOUND. An array goes out as the
   * only page of a list.
   */
  readonly routes: Map<string, Route>;
  /** Resolves with the next subscriber of the event stream, also one that came before this call. */
  nextSubscriber(): Promise<Subscriber>;
}

interface Subscriber {
  /** What it asked for, and from where on. */
  readonly path: string;
  readonly lastEventId: string | undefined;
  send(event: string, data: unknown, id: string): void;
  /** Of a stream of jobs, what it shows of the view. */
  publish(view: ClusterView): void;
  /** Cuts the connection as a crash would. */
  cut(): void;
}

export async function startCoordinatorServer(): Promise<CoordinatorServer> {
  const routes = new Map<string, Route>();
  const requests: ReceivedRequest[] = [];
  const subscribers: Subscriber[] = [];
  let wakeSubscriberWait = (): void => {};

  const subscribe = (incoming: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    subscribers.push({
      path: incoming.url ?? "",
      lastEventId: incoming.headers["last-event-id"] as string | undefined,
      send: (event, data, id) =>
        response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\nid: ${id}\n\n`),
      publish: (view) => {
        if (incoming.url?.startsWith("/api/jobs"))
          response.write(`event: snapshot\ndata: ${JSON.stringify({ items: view.jobs })}\n\n`);
        else response.write(`event: cluster\ndata: ${JSON.stringify(view)}\n\n`);
      },
      cut: () => response.destroy(),
    });
    wakeSubscriberWait();
  };

  const server = createServer((incoming, response) => {
    if (incoming.headers.accept === "text/event-stream") return subscribe(incoming, response);
    void readRequest(incoming).then((request): void => {
      requests.push(request);
      const key = `${request.method} ${request.path}`;
      const route = routes.get(key) ?? routes.get(key.replace(/\?.*/, ""));
      const answer = route?.(request) ?? problem(404, "NOT_FOUND", `no ${request.path}`);
      if (answer === "cut") return void response.destroy();
      const { status = 200 } = answer;
      const body = Array.isArray(answer.body) ? { items: answer.body, next: null } : answer.body;
      const type = status < 400 ? "application/json" : "application/problem+json";
      response.writeHead(status, { "content-type": type }).end(JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    routes,
    async nextSubscriber() {
      for (;;) {
        const subscriber = subscribers.shift();
        if (subscriber) return subscriber;
        await new Promise<void>((resolve) => {
          wakeSubscriberWait = resolve;
        });
      }
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

export const problem = (status: number, code: string, detail: string, data: object = {}): Answer => ({
  status,
  body: { type: "about:blank", title: code, status, detail, code, data, remedy: `remedy of ${code}` },
});

async function readRequest(incoming: IncomingMessage): Promise<ReceivedRequest> {
  const pieces: Buffer[] = [];
  for await (const piece of incoming as AsyncIterable<Buffer>) pieces.push(piece);
  const text = Buffer.concat(pieces).toString();
  return {
    method: incoming.method ?? "",
    path: incoming.url ?? "",
    authorization: incoming.headers.authorization,
    idempotencyKey: incoming.headers["idempotency-key"],
    body: text === "" ? undefined : JSON.parse(text),
  };
}
