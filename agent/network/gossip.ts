import type { GossipSub } from "@chainsafe/libp2p-gossipsub";
import { decode, encode } from "../../protocol/codec.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { ClusterNetwork, Log, Topic } from "../../protocol/ports.ts";

/** Facts over gossipsub: small, signed by their author (StrictSign), validated before a listener sees them. */
export function createGossip(pubsub: GossipSub, log: Log): Pick<ClusterNetwork, "publish" | "subscribe"> {
  return {
    publish: async <Fact>(topic: Topic<Fact>, fact: Fact) => {
      const bytes = encode(fact);
      if (bytes.byteLength > limits.gossipMessageBytes) {
        throw new RingfoldError("MESSAGE_TOO_LARGE", `fact of ${bytes.byteLength} bytes`, {
          topic: topic.name,
        });
      }
      await pubsub.publish(topic.name, bytes);
    },
    subscribe: <Fact>(topic: Topic<Fact>, listener: (fact: Fact, from: string) => void) => {
      pubsub.addEventListener("gossipsub:message", ({ detail: { msg } }) => {
        if (msg.topic !== topic.name || msg.type !== "signed") return;
        const from = msg.from.toString();
        try {
          listener(decode(msg.data, topic.schema, limits.gossipMessageBytes), from);
        } catch (error) {
          log.debug({ err: error, from, topic: topic.name }, "Dropped a fact");
        }
      });
      pubsub.subscribe(topic.name);
    },
  };
}
