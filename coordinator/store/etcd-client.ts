import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";

/**
 * What we need of etcd's v3 API, over its documented JSON gateway: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
 * Keys and values travel as base64, 64-bit numbers as strings.
 */
export interface EtcdClient {
  /**
   * @throws RingfoldError STORE_FAILED when no endpoint answers in time, or one refuses; `data.refused` tells which:
   * without it the request may have been carried out.
   */
  call<T>(path: string, body: object, schema: z.ZodType<T>, signal?: AbortSignal): Promise<T>;
}

/** One endpoint gets this long before the next is asked: all three must have had their turn well within a lease. */
const attemptMs = 800;

export function createEtcdClient(endpoints: readonly string[]): EtcdClient {
  /** The one that answered last. */
  let current = 0;
  return {
    async call(path, body, schema, signal) {
      let cause: unknown;
      for (let i = 0; i < endpoints.length; i++) {
        const endpoint = endpoints[(current + i) % endpoints.length]!;
        try {
          const answer = await ask(endpoint, path, body, schema, signal);
          current = (current + i) % endpoints.length;
          return answer;
        } catch (error) {
          signal?.throwIfAborted();
          if (error instanceof RingfoldError && error.data.refused) throw error;
          cause = error;
        }
      }
      const where = endpoints.join(", ");
      throw new RingfoldError("STORE_FAILED", `no etcd answers at ${where}`, { endpoints }, { cause });
    },
  };
}

const refusalSchema = z.object({ error: z.string(), code: z.number().optional() });
/** gRPC codes that another endpoint, or the same one later, may answer otherwise: deadline, aborted, unavailable. */
const passing: ReadonlySet<number> = new Set([4, 10, 14]);

async function ask<T>(
  endpoint: string,
  path: string,
  body: object,
  schema: z.ZodType<T>,
  signal?: AbortSignal,
): Promise<T> {
  const timeout = AbortSignal.timeout(attemptMs);
  const response = await fetch(`${endpoint}/v3/${path}`, {
    method: "POST",
    body: JSON.stringify(body),
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
  });
  const answer: unknown = await response.json();
  if (response.ok) return schema.parse(answer);
  const refusal = refusalSchema.safeParse(answer);
  const message = refusal.data?.error ?? `status ${response.status}`;
  const refused = !passing.has(refusal.data?.code ?? 14);
  throw new RingfoldError("STORE_FAILED", `etcd at ${endpoint} refuses: ${message}`, { endpoint, refused });
}

export const toBase64 = (bytes: Uint8Array | string): string =>
  Buffer.from(bytes as string).toString("base64");
export const fromBase64 = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "base64"));

/** The end of the range of all keys that begin with `prefix`. */
export const afterPrefix = (prefix: string): string =>
  `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
