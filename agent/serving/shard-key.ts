/** Names one shard of one version, in maps and in logs. */
export interface ShardId {
  /** Two deployments of one version may cut it differently. */
  readonly deployment: number;
  readonly name: string;
  readonly version: number;
  readonly shardIndex: number;
}

/** `digits@3#5/0`: readable, and unique because names hold none of these signs. */
export const shardKey = ({ name, version, deployment, shardIndex }: ShardId): string =>
  `${name}@${version}#${deployment}/${shardIndex}`;
