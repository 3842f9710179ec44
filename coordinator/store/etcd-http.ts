import { once } from "node:events";
import { Agent, type IncomingMessage, request as requestPlain } from "node:http";
import { request as requestTls, Agent as TlsAgent } from "node:https";
import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import { connectionFailure, parseJson } from "../../protocol/http.ts";
import { type AskEndpoint, attemptMs } from "./etcd-client.ts";

/** What a coordinator shows to be let in. None of it stands in an error or a log. */
export interface EtcdAccess {
  readonly user?: { readonly name: string; readonly password: string };
  /** PEM. Authorities of the nodes' certificates, beside those of Node. */
  readonly authority?: string;
  /** PEM: a certificate of ours, and its key. */
  readonly certificate?: { readonly certificate: string; readonly key: string };
}

/** etcd makes a password slow to try on purpose. */
const authenticateMs = 4 * attemptMs;
const tokenSchema = z.object({ token: z.string() });
const refusalSchema = z.object({ error: z.string(), code: z.number().optional() });
/** gRPC codes that another endpoint, or the same one later, may answer otherwise: cancelled, deadline, aborted, unavailable. */
const passing: ReadonlySet<number> = new Set([1, 4, 10, 14]);
/** The same without a code of its own: a node whose raft has no leader drops proposals, and one that ends stops. */
const passingWords = /^raft(:| proposal dropped)/;

/**
 * Asks etcd over HTTP, with a token where there is a user. A token ends with the node that gave it, or when roles change: the
 * next one is asked for at once.
 * @throws RingfoldError of what it returns: STORE_DENIED | STORE_FAILED, both with `data.refused` when etcd has refused
 */
export function askOverHttp(access: EtcdAccess = {}): AskEndpoint {
  const post = openPost(access);
  const { user } = access;
  let token: Promise<string> | undefined;
  /** One for all who need it: nobody's signal ends it. */
  const authenticate = async (endpoint: string): Promise<string> => {
    const options = { signal: undefined, timeoutMs: authenticateMs };
    return tokenSchema.parse(await post(endpoint, "auth/authenticate", user!, options)).token;
  };
  const tokenOf = (endpoint: string): Promise<string> => {
    if (token) return token;
    const asked = authenticate(endpoint);
    token = asked;
    asked.catch(() => {
      if (token === asked) token = undefined;
    });
    return asked;
  };
  return async (endpoint, path, body, signal) => {
    if (!user) return post(endpoint, path, body, { signal, timeoutMs: attemptMs });
    for (let attempt = 1; ; attempt++) {
      const asked = tokenOf(endpoint);
      const shown = await asked;
      try {
        return await post(endpoint, path, body, { signal, timeoutMs: attemptMs, token: shown });
      } catch (cause) {
        if (attempt > 1 || !(cause instanceof RingfoldError) || !cause.data.tokenIsOver) throw cause;
        if (token === asked) token = undefined;
      }
    }
  };
}

interface PostOptions {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly token?: string;
}

function openPost({ authority, certificate, user }: EtcdAccess) {
  const plain = new Agent({ keepAlive: true });
  const tls = new TlsAgent({
    keepAlive: true,
    ...(authority !== undefined && { ca: authority }),
    ...(certificate && { cert: certificate.certificate, key: certificate.key }),
  });
  return async (endpoint: string, path: string, body: object, options: PostOptions): Promise<unknown> => {
    const { signal, timeoutMs, token } = options;
    const timeout = AbortSignal.timeout(timeoutMs);
    const isTls = endpoint.startsWith("https:");
    const until = signal ? AbortSignal.any([signal, timeout]) : timeout;
    const request = (isTls ? requestTls : requestPlain)(`${endpoint}/v3/${path}`, {
      ...{ method: "POST", agent: isTls ? tls : plain, signal: until },
      headers: { "content-type": "application/json", ...(token !== undefined && { authorization: token }) },
    });
    request.end(JSON.stringify(body));
    const answer = await answerOf(request).catch((cause: unknown) => {
      throw (isTls && tlsFailure(endpoint, cause)) || cause;
    });
    const value = parseJson(answer.text);
    if (answer.status === 200 && value !== undefined) return value;
    throw refusalOf(endpoint, { ...answer, value, user: user?.name });
  };
}

async function answerOf(request: ReturnType<typeof requestPlain>): Promise<{ status: number; text: string }> {
  const [response] = (await once(request, "response")) as [IncomingMessage];
  const pieces: Buffer[] = [];
  for await (const piece of response as AsyncIterable<Buffer>) pieces.push(piece);
  return { status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString() };
}

function refusalOf(
  endpoint: string,
  answer: {
    readonly status: number;
    readonly text: string;
    readonly value: unknown;
    readonly user: string | undefined;
  },
): RingfoldError {
  const { status, text, value, user } = answer;
  const refusal = refusalSchema.safeParse(value);
  const message = refusal.data?.error ?? (text.slice(0, 200).trim() || `status ${status}`);
  const remedy = remedyOf(message, user);
  if (remedy !== undefined) {
    const data = { ...{ endpoint, refused: true, remedy }, ...(user !== undefined && { user }) };
    return new RingfoldError("STORE_DENIED", `etcd at ${endpoint} refuses: ${message}`, data);
  }
  return new RingfoldError("STORE_FAILED", `etcd at ${endpoint} refuses: ${message}`, {
    endpoint,
    refused: !passing.has(refusal.data?.code ?? 14) && !passingWords.test(message),
    tokenIsOver: /invalid auth token|revision of auth store is old/.test(message),
  });
}

/** What a person does about a refusal that no later try will change; undefined for all others. */
function remedyOf(message: string, user: string | undefined): string | undefined {
  if (/user name is empty/.test(message))
    return "It wants a user: give --etcd-user and --etcd-password-file.";
  if (/authentication failed|user name not found/.test(message))
    return `Check the user ${user} and its password (--etcd-password-file, or RINGFOLD_ETCD_PASSWORD).`;
  if (/permission denied/.test(message))
    return `Grant ${user} the prefix: \`etcdctl role grant-permission ROLE readwrite PREFIX/ --prefix=true\`, and ROLE to it.`;
  if (/authentication is not enabled/.test(message))
    return "It knows no users: leave --etcd-user out, or enable them there with `etcdctl auth enable`.";
  return undefined;
}

/** A handshake that will fail again; undefined when it is no matter of certificates. */
function tlsFailure(endpoint: string, cause: unknown): RingfoldError | undefined {
  const code = connectionFailure(cause);
  const denied = (what: string, remedy: string) =>
    new RingfoldError("STORE_DENIED", `${what} (${code})`, { endpoint, refused: true, remedy }, { cause });
  if (/CERTIFICATE_REQUIRED|BAD_CERTIFICATE|ALERT_UNKNOWN_CA|HANDSHAKE_FAILURE/.test(code))
    return denied(
      `etcd at ${endpoint} does not take our certificate, or wants one`,
      "Give one that its authority has signed: --etcd-cert and --etcd-key.",
    );
  if (/ALTNAME/.test(code))
    return denied(
      `the certificate of etcd at ${endpoint} is for another host`,
      "Name the host in --store as its certificate does, or make one with this name.",
    );
  if (/CERT|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)/.test(code))
    return denied(
      `the certificate of etcd at ${endpoint} is not trusted`,
      "Give the authority that signed it: --etcd-ca FILE (PEM); check that it is not out of date.",
    );
  return undefined;
}
