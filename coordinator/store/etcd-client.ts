import type { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";

/**
 * What we need of etcd's v3 API, over its documented JSON gateway: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
 * Keys and values travel as base64, 64-bit numbers as strings.
 */
export interface EtcdClient {
  /**
   * @throws RingfoldError STORE_FAILED when no endpoint answers in time, or one refuses; `data.refused` tells which:
   * without it the request may have been carried out. STORE_DENIED when etcd does not let this coordinator in.
   */
  call<T>(path: string, body: object, schema: z.ZodType<T>, signal?: AbortSignal): Promise<T>;
}

/** One endpoint gets this long before the next is asked: all three must have had their turn well within a lease. */
export const attemptMs = 800;

/** Asks one endpoint. @throws RingfoldError STORE_FAILED | STORE_DENIED with `data.refused` when it answered with a refusal; anything when it did not answer */
export type AskEndpoint = (
  endpoint: string,
  path: string,
  body: object,
  signal: AbortSignal | undefined,
) => Promise<unknown>;

export function createEtcdClient(endpoints: readonly string[], ask: AskEndpoint): EtcdClient {
  /** The one that answered last; once it does not, the next: not every call is to wait for it. */
  let current = 0;
  return {
    async call(path, body, schema, signal) {
      let cause: unknown;
      const first = current;
      for (let i = 0; i < endpoints.length; i++) {
        const index = (first + i) % endpoints.length;
        try {
          const answer = schema.parse(await ask(endpoints[index]!, path, body, signal));
          current = index;
          return answer;
        } catch (error) {
          signal?.throwIfAborted();
          if (error instanceof RingfoldError && error.data.refused) throw error;
          if (current === index) current = (index + 1) % endpoints.length;
          cause = error;
        }
      }
      const where = endpoints.join(", ");
      throw new RingfoldError("STORE_FAILED", `no etcd answers at ${where}`, { endpoints }, { cause });
    },
  };
}

/** Whether the same request may go well later. */
export const saysNobodyAnswers = ({ code, data }: RingfoldError): boolean =>
  code === "STORE_FAILED" && "endpoints" in data;

export const toBase64 = (bytes: Uint8Array | string): string =>
  Buffer.from(bytes as string).toString("base64");
export const fromBase64 = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "base64"));

/** The end of the range of all keys that begin with `prefix`. */
export const afterPrefix = (prefix: string): string =>
  `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
