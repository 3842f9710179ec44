import { RingfoldError } from "./errors.ts";

/** What the clients of the coordinator and of a gateway have in common. */

/**
 * `path` below the base URL, whether that ends with a slash or not.
 * @throws RingfoldError USAGE when the base is no HTTP address
 */
export function resolveUrl(baseUrl: string, path: string): URL {
  const base = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (base?.protocol !== "http:" && base?.protocol !== "https:") {
    throw new RingfoldError("USAGE", `${baseUrl} is not an HTTP address`, {
      remedy: "Give it as http://HOST:PORT.",
    });
  }
  return new URL(path, base.href.endsWith("/") ? base.href : `${base.href}/`);
}

/** @returns undefined for what is not JSON: the schema that comes next names the mistake */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** fetch says only "fetch failed"; why (ECONNREFUSED, ENOTFOUND, ...) is one level down. */
export function connectionFailure(cause: unknown): string {
  const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return (reason as { code?: string } | undefined)?.code ?? String(reason);
}

/** Of a URL: this machine, whichever that is. */
export const isLoopbackHost = (host: string): boolean =>
  host === "localhost" || host === "[::1]" || host.startsWith("127.");

/** Whether nobody has heard the request: it may be sent to somebody else, whatever it asks for. */
export const wasNeverSent = (cause: unknown): boolean =>
  [
    "ECONNREFUSED",
    "ENOTFOUND",
    "EAI_AGAIN",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "UND_ERR_CONNECT_TIMEOUT",
  ].includes(connectionFailure(cause));

/** Whether the connection broke, so that the request may have arrived although no answer came. */
export const wasCutOff = (cause: unknown): boolean =>
  ["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"].includes(connectionFailure(cause));
