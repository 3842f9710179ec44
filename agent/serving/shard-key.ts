/** Names one shard of one version, in maps and in logs. */
export interface ShardId {
  readonly name: string;
  readonly version: number;
  readonly shardIndex: number;
}

/** `digits@3/0`: readable, and unique because names hold neither `@` nor `/`. */
export const shardKey = (shard: ShardId): string => `${shard.name}@${shard.version}/${shard.shardIndex}`;
