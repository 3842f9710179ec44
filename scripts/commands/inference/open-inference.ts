import { z } from "zod";
import { type ErrorCode, isErrorCode, RingfoldError } from "../../../protocol/errors.ts";
import { connectionFailure, parseJson, resolveUrl } from "../../../protocol/http.ts";
import { limits } from "../../../protocol/limits.ts";

/** f32 with the batch dimension first. */
export interface InferenceTensor {
  readonly shape: readonly number[];
  readonly data: ArrayLike<number>;
}

const answerSchema = z.object({
  model_name: z.string(),
  model_version: z.string().optional(),
  outputs: z
    .array(
      z.object({
        name: z.string(),
        shape: z.array(z.number().int().nonnegative()).min(1),
        datatype: z.string(),
        data: z.array(z.number()),
      }),
    )
    .min(1),
});
export type InferenceAnswer = z.infer<typeof answerSchema>;

const metadataSchema = z.object({
  inputs: z.array(z.object({ shape: z.array(z.number().int()) })).length(1),
  outputs: z.array(z.object({ shape: z.array(z.number().int()) })).length(1),
});

/**
 * Shapes of one example, in and out.
 * @throws RingfoldError as `infer`
 */
export async function modelShapes(
  target: InferenceTarget,
  signal: AbortSignal,
): Promise<{ readonly input: readonly number[]; readonly output: readonly number[] }> {
  const answer = metadataSchema.safeParse(await ask(target, { path: "", signal }));
  if (!answer.success) throw stranger(target);
  const [input, output] = [answer.data.inputs[0]!, answer.data.outputs[0]!];
  return { input: input.shape.slice(1), output: output.shape.slice(1) };
}

export interface InferenceTarget {
  /** Base URL of a gateway. */
  readonly gatewayUrl: string;
  readonly name: string;
  /** The deployed one unless told. */
  readonly version?: number;
  /** What belongs together has one: while a new version is rolled out, the same one answers all of it. */
  readonly id?: string;
}

/**
 * One prediction by the Open Inference Protocol v2, JSON tensors.
 *
 * @throws RingfoldError PEER_UNREACHABLE | REQUEST_TIMEOUT | CANCELLED | MESSAGE_INVALID, or what the gateway's answer
 * means: NOT_FOUND, REQUEST_INVALID, OVERLOADED, NO_REPLICA, ...
 */
export async function infer(
  target: InferenceTarget,
  input: InferenceTensor,
  signal: AbortSignal,
): Promise<InferenceAnswer> {
  const body = {
    ...(target.id !== undefined && { id: target.id }),
    inputs: [{ name: "input", shape: input.shape, datatype: "FP32", data: Array.from(input.data) }],
  };
  const answer = answerSchema.safeParse(await ask(target, { path: "/infer", body, signal }));
  if (answer.success && answer.data.outputs.every(isConsistent)) return answer.data;
  throw stranger(target);
}

/** GET, or POST where there is a body. @returns the JSON of the answer */
async function ask(
  target: InferenceTarget,
  { path, body, signal }: { readonly path: string; readonly body?: object; readonly signal: AbortSignal },
): Promise<unknown> {
  const { gatewayUrl } = target;
  const url = modelUrl(target, path);
  let response: Response;
  let text: string;
  try {
    response = await fetch(url, {
      ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
      headers: { "content-type": "application/json", accept: "application/json" },
      signal: AbortSignal.any([signal, AbortSignal.timeout(limits.predictTimeoutMs)]),
    });
    text = await response.text();
  } catch (cause) {
    throw gatewayError(cause, gatewayUrl, signal);
  }
  const value = parseJson(text);
  if (!response.ok) throw refusal(response.status, value, gatewayUrl);
  return value;
}

const stranger = ({ gatewayUrl }: InferenceTarget) =>
  new RingfoldError("MESSAGE_INVALID", `${gatewayUrl} does not answer by the Open Inference Protocol`, {
    address: gatewayUrl,
  });

const isConsistent = ({ shape, data }: InferenceAnswer["outputs"][number]): boolean =>
  shape.reduce((product, size) => product * size, 1) === data.length;

function modelUrl({ gatewayUrl, name, version }: InferenceTarget, path: string): URL {
  const versionPath = version === undefined ? "" : `/versions/${version}`;
  return resolveUrl(gatewayUrl, `v2/models/${encodeURIComponent(name)}${versionPath}${path}`);
}

function gatewayError(cause: unknown, gatewayUrl: string, signal: AbortSignal): RingfoldError {
  const data = { address: gatewayUrl };
  if (signal.aborted) return new RingfoldError("CANCELLED", "interrupted", data, { cause });
  if (cause instanceof Error && cause.name === "TimeoutError") {
    const message = `no answer from the gateway at ${gatewayUrl} within ${limits.predictTimeoutMs / 1_000} s`;
    return new RingfoldError("REQUEST_TIMEOUT", message, data, { cause });
  }
  const message = `no gateway answers at ${gatewayUrl} (${connectionFailure(cause)})`;
  return new RingfoldError("PEER_UNREACHABLE", message, data, { cause });
}

/** The protocol's errors are `{"error": text}`; ours carry a code as well. */
const refusalSchema = z.object({ error: z.string().optional(), code: z.string().optional() });

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  400: "REQUEST_INVALID",
  404: "NOT_FOUND",
  413: "PAYLOAD_TOO_LARGE",
  422: "REQUEST_INVALID",
  429: "OVERLOADED",
  503: "NO_REPLICA",
  504: "REQUEST_TIMEOUT",
};

function refusal(status: number, value: unknown, gatewayUrl: string): RingfoldError {
  const { error, code } = refusalSchema.safeParse(value).data ?? {};
  return new RingfoldError(
    isErrorCode(code) ? code : (codeOfStatus[status] ?? "PEER_REFUSED"),
    error ?? `${gatewayUrl} answered ${status}`,
    { address: gatewayUrl, status },
  );
}
