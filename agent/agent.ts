import { randomUUID } from "node:crypto";
import { join as joinPath } from "node:path";
import type { Hono } from "hono";
import { keyIdOf } from "../protocol/attestation.ts";
import type { EngineName } from "../protocol/job-spec.ts";
import { askRegistered } from "../protocol/messages/dataset.ts";
import { dedicatedMemory, protocolRange } from "../protocol/messages/membership.ts";
import { reportShard } from "../protocol/messages/serving.ts";
import type { Clock, Log } from "../protocol/ports.ts";
import { ChunkPatrol } from "./artefact/chunk-patrol.ts";
import { ArtefactKeeper } from "./artefact/keeper.ts";
import { Leftovers } from "./artefact/leftovers.ts";
import { openArtefactStore } from "./artefact/store.ts";
import { fetchArtefact, serveArtefacts } from "./artefact/transfer.ts";
import type { AgentConfig } from "./config.ts";
import { type EngineFacts, namedEngines, probeEngine } from "./engine/probe.ts";
import { loadCredentials, saveCredentials } from "./membership/credentials-file.ts";
import { findGpus, machineSources } from "./membership/gpus.ts";
import { LinkMeter } from "./membership/link-meter.ts";
import { createLoadMeter, machineCapabilities } from "./membership/machine.ts";
import { Membership } from "./membership/membership.ts";
import { TermFence } from "./membership/term-fence.ts";
import { certifyIdentity, loadIdentity, signerOf } from "./network/identity.ts";
import { ipv4Hosts, localAddressFacing } from "./network/local-address.ts";
import { openNetwork } from "./network/network.ts";
import { release } from "./release.ts";
import { openServing } from "./serving/serving.ts";
import { saveChosenPython } from "./torch/chosen-python.ts";
import { serveScriptLogs } from "./torch/script-log.ts";
import { JobRunner } from "./training/job-runner.ts";
import { type FetchPart, forkTrainer } from "./training/trainer-child.ts";

export interface Agent {
  readonly peerId: string;
  readonly name: string;
  readonly gatewayUrl: string;
  readonly clusterName: string;
  readonly engine: EngineFacts;
  /** Says goodbye, waits until nothing depends on this agent (at most until `signal`), then closes. */
  leave(signal: AbortSignal): Promise<void>;
  /** Ends without a goodbye. */
  close(): Promise<void>;
}

export interface AgentModules {
  readonly clock: Clock;
  readonly log: Log;
  /** Listens with a Hono app; given by the composition root. @throws RingfoldError PORT_IN_USE */
  readonly listen: (app: Hono, at: { readonly host: string; readonly port: number }) => Promise<HttpListener>;
}
export interface HttpListener {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Assembles one agent in order; what was opened is closed in reverse, also when a later part fails.
 * @throws RingfoldError TOKEN_* | COORDINATOR_UNREACHABLE | PORT_IN_USE | CONFIG_INVALID | STORE_FAILED | ENGINE_UNAVAILABLE
 */
export async function openAgent(
  config: AgentConfig,
  modules: AgentModules,
  signal: AbortSignal,
): Promise<Agent> {
  const { clock, log } = modules;
  const undo: (() => Promise<void> | void)[] = [];
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    const credentialsPath = joinPath(config.dataPath, "agent.json");
    const credentials = await loadCredentials(credentialsPath, config.token, clock.nowMs());
    const { claims } = credentials;
    const privateKey = await loadIdentity(joinPath(config.dataPath, "identity.key"));
    const probe = (name: EngineName) => probeEngine(name, clock, signal);
    const [engine, gpus] = await Promise.all([
      probe(config.engine),
      findGpus(machineSources(), { clock, signal }),
    ]);
    const gpuMemoryBytes = dedicatedMemory(gpus);
    const capabilities = machineCapabilities(engine, {
      engines: await namedEngines(engine, probe),
      ...{ gpus, labels: config.labels, scripts: config.python !== undefined },
      memoryLimitBytes: config.memoryLimitBytes,
    });
    log.info({ engine: engine.name, gpu: engine.gpu, gpus, candidates: engine.candidates }, engine.reason);

    const artefactPath = joinPath(config.dataPath, "artefacts");
    const store = openArtefactStore(artefactPath);
    undo.push(() => store.close());
    const network = await openNetwork({
      privateKey,
      swarmKey: claims.swarmKey,
      listen: config.listen,
      relay: false,
      log,
    });
    undo.push(() => network.close());
    serveArtefacts(network, store);

    // Where members dial our data plane: the address that faces the coordinator, unless one was chosen to listen on.
    // On a LAN the token need not know where the coordinator is, so this waits until it has been reached.
    let host = config.listen.host;
    const chooseHost = async (): Promise<void> => {
      if (config.listen.host !== "0.0.0.0") return;
      const remote = network.remoteHost(claims.coordinator);
      host = await localAddressFacing([...(remote ? [remote] : []), ...ipv4Hosts(claims.addresses)]);
    };
    const fence = new TermFence(claims.coordinator);
    const incarnation = randomUUID();
    const fetchPart: FetchPart = async (manifest, digest, abort) => {
      const holders = membership.holdersOf(manifest);
      await fetchArtefact(digest, { network, store, holders, log, listed: false }, abort);
    };
    const leftovers = new Leftovers({
      ...{ store, folder: config.dataPath, clock, log },
      isRegistered: async (digest, abort) => {
        const options = { signal: abort };
        return (await network.request(claims.coordinator, askRegistered, { digest }, options)).registered;
      },
    });
    const tidy = (abort: AbortSignal) => leftovers.free(abort);
    const patrol = new ChunkPatrol({ store, fetchPart, tidy, clock, log });
    undo.push(() => patrol.close());
    const fetchFromPeers = (
      digest: string,
      abort: AbortSignal,
      holders: readonly string[] = membership.holdersOf(digest),
    ) => fetchArtefact(digest, { network, store, holders, log }, abort);
    const keeper = new ArtefactKeeper({
      ...{ network, fence, store, fetchPart, fetchWhole: fetchFromPeers, log },
      isTraining: (jobId) => runner.isTraining(jobId),
    });
    undo.push(() => keeper.close());
    const scriptsPath = joinPath(config.dataPath, "scripts");
    await saveChosenPython(scriptsPath, config.python);
    const runner = new JobRunner({
      network,
      incarnation,
      fence,
      coordinatorPeerId: claims.coordinator,
      store,
      setup: {
        peerId: network.peerId,
        certificate: await certifyIdentity(privateKey),
        listenHost: config.listen.host,
        artefactPath,
        logLevel: config.logLevel,
        engine: config.engine,
        ...(config.memoryLimitBytes === undefined ? {} : { memoryLimitBytes: config.memoryLimitBytes }),
        ...(gpuMemoryBytes === undefined ? {} : { gpuMemoryBytes }),
        ...(config.python === undefined ? {} : { torch: { python: config.python, folder: scriptsPath } }),
      },
      host: () => host,
      fetchArtefact: fetchFromPeers,
      log,
      clock,
      fork: forkTrainer,
      fetchPart,
      signer: signerOf(privateKey),
    });
    undo.push(() => runner.close());
    serveScriptLogs(network, { fence, folder: scriptsPath, runs: (jobId) => runner.runs(jobId) });

    const serving = openServing(
      { engine: config.engine, release },
      {
        network,
        log,
        clock,
        isCoordinator: (peerId) => peerId === claims.coordinator,
        authority: keyIdOf(claims.authority),
        fetchArtefact: (digest, abort) => fetchFromPeers(digest, abort),
        report: async (report) => {
          await network.request(claims.coordinator, reportShard, { ...report, life: incarnation });
        },
      },
    );
    undo.push(() => serving.close());
    const listener = await modules.listen(serving.gateway, config.gateway);
    undo.push(() => listener.close());

    const gatewayUrl = (): string =>
      `http://${config.gateway.host === "0.0.0.0" ? host : config.gateway.host}:${listener.port}`;
    const nowMs = () => performance.now();
    const linkMeter = new LinkMeter({ network, clock, log, nowMs, except: claims.coordinator });
    undo.push(() => linkMeter.close());
    const membership: Membership = new Membership({
      network,
      credentials,
      clock,
      log,
      hello: () => ({
        peerId: network.peerId,
        name: config.name,
        release,
        protocolMin: protocolRange.min,
        protocolMax: protocolRange.max,
        addresses: [...network.addresses()],
        gatewayUrl: gatewayUrl(),
        capabilities,
        incarnation,
      }),
      links: () => linkMeter.links(),
      served: () => serving.served(),
      holdings: () => store.holdings(),
      measureLoad: createLoadMeter(),
      onReached: chooseHost,
      onJoined: async (response) => {
        await saveCredentials(credentialsPath, { ...credentials, membership: response.membership });
        runner.coordinatorReturned();
      },
    });
    undo.push(() => membership.close());
    const deadline = credentials.membership === null ? AbortSignal.timeout(config.joinTimeoutMs) : undefined;
    await membership.join(deadline ? AbortSignal.any([signal, deadline]) : signal);
    linkMeter.start();
    patrol.start();
    log.info(
      { peerId: network.peerId, name: config.name, cluster: claims.iss, gatewayUrl: gatewayUrl() },
      "Joined the cluster",
    );

    return {
      peerId: network.peerId,
      name: config.name,
      gatewayUrl: gatewayUrl(),
      clusterName: claims.iss,
      engine,
      leave: async (abort) => {
        await membership.leave("the agent was asked to end", abort);
        await close();
      },
      close,
    };
  } catch (cause) {
    await close();
    throw cause;
  }
}
