import type { Hono } from "hono";
import type { EngineName } from "../../protocol/job-spec.ts";
import type { Served } from "../../protocol/messages/served.ts";
import { type Clock, type Log, systemClock } from "../../protocol/ports.ts";
import { createGateway } from "./gateway.ts";
import { openShardHost, type ShardHost } from "./host/shard-host.ts";
import { PlacementTable } from "./placement-table.ts";
import { Predictor } from "./predictor.ts";
import { Router } from "./router.ts";
import { ServedCounter } from "./served-counter.ts";
import { ShardKeeper, type ShardKeeperModules } from "./shard-keeper.ts";
import { TrafficSplit } from "./traffic-split.ts";

export interface ServingOptions {
  readonly engine: EngineName;
  readonly release: string;
}
export interface ServingModules
  extends Pick<ShardKeeperModules, "network" | "fetchArtefact" | "report" | "isCoordinator" | "authority"> {
  readonly log: Log;
  readonly clock?: Clock;
  /** From 0 to below 1. */
  readonly random?: () => number;
}

/** The serving half of an agent. */
export interface Serving {
  readonly table: PlacementTable;
  readonly host: ShardHost;
  readonly keeper: ShardKeeper;
  readonly predictor: Predictor;
  /** To listen with; closing the listener is its owner's, before `close`. */
  readonly gateway: Hono;
  /** What the gateway has answered, of deployments in a rollout. */
  served(): Served[];
  close(): Promise<void>;
}

/** Assembles serving in order; `close` undoes it in reverse. Opens no socket and, until a shard is placed, no process. */
export function openServing(options: ServingOptions, modules: ServingModules): Serving {
  const { network, log, clock = systemClock, random = Math.random } = modules;
  const table = new PlacementTable();
  const host = openShardHost({ engine: options.engine }, { log, clock });
  const keeper = new ShardKeeper({ ...modules, table, host, clock });
  const router = new Router({ self: network.peerId }, { clock });
  network.onConnection(({ peerId, connected }) =>
    connected ? router.takeBack(peerId) : router.putAside(peerId),
  );
  const predictor = new Predictor({ network, host, table, router, clock, log });
  const counter = new ServedCounter(table);
  const split = new TrafficSplit({ predictor, table, counter, clock, log, random });
  const gateway = createGateway({ release: options.release }, { predictor: split, table, log });
  return {
    table,
    host,
    keeper,
    predictor,
    gateway,
    served: () => counter.told(),
    close: async () => {
      keeper.close();
      await host.close();
    },
  };
}
