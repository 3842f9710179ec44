import { InvalidArgumentError, Option } from "commander";
import { limits } from "../../protocol/limits.ts";
import { type JobNeeds, type Labels, labelsSchema, needsSchema } from "../../protocol/needs.ts";

/** Parsers of option and argument values; what they throw becomes exit code 64 with commander's message. */

export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError("Give a whole number from 1.");
  }
  return value;
}

/** Copies of what the cluster keeps. */
export function replicas(text: string): number {
  const value = positiveInteger(text);
  if (value > limits.replicasMax)
    throw new InvalidArgumentError(`Give a number from 1 to ${limits.replicasMax}.`);
  return value;
}

export function wholeNumber(text: string): number {
  if (!/^[0-9]{1,15}$/.test(text)) throw new InvalidArgumentError("Give a whole number from 0.");
  return Number(text);
}

/** From 0 to 9; of jobs that wait for the same agents, the one with the highest goes first. */
export function priority(text: string): number {
  if (!/^[0-9]$/.test(text)) throw new InvalidArgumentError("Give a whole number from 0 to 9.");
  return Number(text);
}

/** `room=a`; one more of them each time. */
export function label(text: string, before: Labels = {}): Labels {
  const [name, value] = keyAndValue(text, "room=a");
  const labels = labelsSchema.safeParse({ ...before, [name]: value });
  if (labels.success) return labels.data;
  throw new InvalidArgumentError(`${labels.error.issues[0]?.message}.`);
}

/** `gpuMemory=8GB`, `cores=4`, `labels.room=a`: keys of `needs` in a job file; one more of them each time. */
export function need(text: string, before: JobNeeds = {}): JobNeeds {
  const [key, value] = keyAndValue(text, "gpuMemory=8GB");
  const labelName = /^labels\.(.+)$/.exec(key)?.[1];
  const more =
    labelName === undefined
      ? { [key]: key === "cores" ? positiveInteger(value) : value }
      : { labels: { ...before.labels, [labelName]: value } };
  const needs = needsSchema.safeParse({ ...before, ...more });
  if (needs.success) return needs.data;
  const [issue] = needs.error.issues;
  const known = "gpuMemory, memory, cores and labels.NAME";
  throw new InvalidArgumentError(
    issue?.code === "unrecognized_keys" ? `There are ${known}.` : `${issue?.message}.`,
  );
}

function keyAndValue(text: string, example: string): readonly [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError(`Give KEY=VALUE, for example ${example}.`);
  return [text.slice(0, at), text.slice(at + 1)];
}

export interface VersionReference {
  readonly name: string;
  readonly version: number;
}

/** `digits@3` */
export function versionReference(text: string): VersionReference {
  const { name, version } = modelReference(text);
  if (version === undefined) throw new InvalidArgumentError("Give NAME@N, for example digits@1.");
  return { name, version };
}

export interface VersionSelector {
  readonly name: string;
  readonly selector: number | string;
}

/** `digits@3`, or `digits@champion` by an alias */
export function versionSelector(text: string): VersionSelector {
  const match = /^([a-z0-9][a-z0-9._-]{0,62})@(?:([1-9][0-9]{0,8})|([a-z][a-z0-9-]{0,31}))$/.exec(text);
  const [, name, version, alias] = match ?? [];
  const selector = alias ?? (version === undefined ? undefined : Number(version));
  if (name === undefined || selector === undefined)
    throw new InvalidArgumentError("Give NAME@N or NAME@ALIAS, for example digits@1.");
  return { name, selector };
}

export interface NameSelector {
  readonly name: string;
  readonly selector?: number | string;
}

/** `digits`, `digits@3`, or `digits@champion` by an alias */
export const nameSelector = (text: string): NameSelector =>
  text.includes("@") ? versionSelector(text) : { name: plainName(text) };

/** `digits`, a name by itself. */
export function plainName(text: string): string {
  const { name, version } = modelReference(text);
  if (version !== undefined) throw new InvalidArgumentError("Give a name without a number.");
  return name;
}

/** `digits` or `digits@3` */
export function modelReference(text: string): { readonly name: string; readonly version?: number } {
  const match = /^([a-z0-9][a-z0-9._-]{0,62})(?:@([1-9][0-9]{0,8}))?$/.exec(text);
  if (match?.[1] === undefined) throw new InvalidArgumentError("Give NAME or NAME@N, for example digits@1.");
  return match[2] === undefined ? { name: match[1] } : { name: match[1], version: Number(match[2]) };
}

/** Both ends belong to it. */
export interface IndexRange {
  readonly first: number;
  readonly last: number;
}

/** `0..9`, or `7` alone. */
export function indexRange(text: string): IndexRange {
  const match = /^([0-9]{1,9})(?:\.\.([0-9]{1,9}))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (!match || last < first) throw new InvalidArgumentError("Give FIRST..LAST, for example 0..9.");
  return { first, last };
}

const secondsPerUnit: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** `90s`, `15m`, `12h`, `7d`. @returns seconds */
export function duration(text: string): number {
  const match = /^([1-9][0-9]{0,8})([smhd])$/.exec(text);
  const unitSeconds = secondsPerUnit[match?.[2] ?? ""];
  if (!match || unitSeconds === undefined)
    throw new InvalidArgumentError("Give a time such as 90s, 15m, 12h or 7d.");
  return Number(match[1]) * unitSeconds;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** `127.0.0.1:7070`, or `:7070` for every address of this machine. */
function hostAndPort(value: string): Endpoint {
  const match = /^([0-9.]*):([0-9]{1,5})$/.exec(value);
  const port = Number(match?.[2]);
  if (!match || port > 65_535) throw new InvalidArgumentError("give HOST:PORT, for example 0.0.0.0:7071.");
  return { host: match[1] || "0.0.0.0", port };
}

/** @param otherwise the address unless told, as `hostAndPort` takes it */
export const endpointOption = (flags: string, description: string, otherwise: string): Option =>
  new Option(flags, description).argParser(hostAndPort).default(hostAndPort(otherwise), otherwise);

/** `15m` ago, or `2026-11-23T19:30:00Z`. @returns milliseconds since 1970 */
export function pointInTime(text: string): number {
  const atMs = Date.parse(text);
  return Number.isNaN(atMs) ? Date.now() - 1_000 * duration(text) : atMs;
}

/** `etcd://10.0.0.1:2379,10.0.0.2:2379/lab`, or `etcds://` for TLS; the prefix of all keys is `ringfold/` unless told. */
export function etcdLocation(text: string): { readonly endpoints: string[]; readonly prefix: string } {
  if (text.includes("@"))
    throw new InvalidArgumentError("Give --etcd-user and --etcd-password-file: others read command lines.");
  const match = /^etcd(s?):\/\/([^/]+)(?:\/([a-z0-9._-]+)\/?)?$/.exec(text);
  const hosts = match?.[2]?.split(",") ?? [];
  if (!match || !hosts.every((host) => /^[a-zA-Z0-9.-]+:[0-9]{1,5}$/.test(host)))
    throw new InvalidArgumentError("Give etcd://HOST:PORT[,HOST:PORT...][/PREFIX].");
  return {
    endpoints: hosts.map((host) => `http${match[1]}://${host}`),
    prefix: `${match[3] ?? "ringfold"}/`,
  };
}
