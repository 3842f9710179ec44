/** Arrows of the house: commands -> agent, coordinator, dashboard -> protocol. See ARCHITECTURE.md. */
const only = (name, from, to, comment) => ({
  name,
  severity: "error",
  comment,
  from: { path: from },
  to: { path: "^(agent|coordinator|protocol|dashboard|scripts|test)/", pathNot: to },
});

module.exports = {
  forbidden: [
    {
      name: "no-circular",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "not-to-unresolvable",
      severity: "error",
      from: { pathNot: "^agent/engine/(webgpu|tensorflow|optional-package)" },
      to: { couldNotResolve: true },
    },
    {
      name: "not-to-dev-dep",
      severity: "error",
      comment: "What runs in production is a dependency.",
      from: {
        path: "^(agent|coordinator|protocol|scripts)/",
        pathNot: "^scripts/(bench|chaos|build-kernels|simulate)",
      },
      to: { dependencyTypes: ["npm-dev"], dependencyTypesNot: ["type-only"] },
    },
    only("protocol-imports-nothing-of-ours", "^protocol/", "^protocol/", "protocol is what nodes agree on."),
    only(
      "agent-imports-protocol",
      "^agent/",
      "^(agent|protocol)/",
      "Agents and coordinators speak messages.",
    ),
    only(
      "coordinator-imports-protocol",
      "^coordinator/",
      "^(coordinator|protocol)/",
      "Coordinators and agents speak messages.",
    ),
    only("dashboard-imports-protocol", "^dashboard/", "^(dashboard|protocol)/", "The dashboard speaks HTTP."),
    only(
      "nothing-imports-tests",
      "^scripts/",
      "^(agent|coordinator|protocol|dashboard|scripts)/",
      "Tests stay outside.",
    ),
    {
      name: "ring-knows-no-engine",
      severity: "error",
      from: { path: "^agent/ring/" },
      to: { path: "^agent/", pathNot: "^agent/ring/" },
    },
    {
      name: "engine-knows-no-network",
      severity: "error",
      from: { path: "^agent/(engine|models)/" },
      to: { path: "^agent/(network|membership|training|serving|artefact)/" },
    },
    {
      name: "data-knows-nothing-else",
      severity: "error",
      from: { path: "^agent/data/" },
      to: { path: "^agent/", pathNot: "^agent/(data/|deadline\\.ts)" },
    },
    {
      name: "libp2p-only-in-network",
      severity: "error",
      comment:
        "libp2p sits behind the ClusterNetwork port. A peer id is also the key that its signatures are verified with.",
      from: {
        path: "^(agent|coordinator|protocol|scripts)/",
        pathNot: "^(agent/network/|protocol/attestation\\.ts$)",
      },
      to: { path: "node_modules/(libp2p|@libp2p|@chainsafe/libp2p|@multiformats)" },
    },
    {
      name: "tfjs-only-in-engine",
      severity: "error",
      from: { path: "^(agent|coordinator|protocol|scripts)/", pathNot: "^agent/(engine|models)/" },
      to: { path: "node_modules/@tensorflow/" },
    },
    {
      name: "lmdb-only-in-stores",
      severity: "error",
      from: {
        path: "^(agent|coordinator|protocol|scripts)/",
        pathNot: "^(agent/artefact/(store|list-journal)|coordinator/store/)",
      },
      to: { path: "node_modules/lmdb" },
    },
    {
      name: "decisions-are-pure",
      severity: "error",
      comment: "No I/O, no clock: (state, event, now) -> decision.",
      from: { path: "^coordinator/decide/" },
      to: { dependencyTypes: ["core"], path: "^(node:)?(fs|net|http|child_process|timers|os|crypto)" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    exclude: { path: "^dashboard/dist/|^agent/(engine|ring|training)/kernels/assembly" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default"],
      extensions: [".ts", ".tsx", ".js", ".mjs", ".cjs", ".json"],
    },
  },
};
