import { BlockList } from "node:net";
import { decode as decodePacket, encode as encodePacket, type Packet } from "dns-packet";
import fc from "fast-check";
import { expect, test } from "vitest";
import { lanAnswers, lanPeer, lanServiceTag } from "../../agent/network/lan-records.ts";
import { createSwarmKey } from "../../agent/network/swarm-key.ts";

const link = new BlockList();
link.addSubnet("10.77.0.9", 24);
const tag = lanServiceTag(createSwarmKey());
const peerIds = [
  "12D3KooWJwA9hdUC6hkgiEvY3Muj8UwmiH2Ns2jwmnFM6v1QMT6K",
  "12D3KooWAZvwPLDGMGYqFPehyXaBdF7KjwpNErtbb2LrVu4uEV8R",
];

/** As it comes from the wire. */
const received = (packet: Packet): Packet => decodePacket(encodePacket({ type: "response", ...packet }));

const addressesOn = (range: string) =>
  fc
    .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 254 }), fc.integer({ min: 1, max: 65_535 })), {
      minLength: 1,
      maxLength: 8,
    })
    .map((hosts) => hosts.map(([host, port]) => `/ip4/${range}.${host}/tcp/${port}/p2p/${peerIds[0]}`));

test("what a peer answers is what the others read, in the service of their swarm key only", () => {
  fc.assert(
    fc.property(addressesOn("10.77.0"), (addresses) => {
      const packet = received({ answers: lanAnswers(tag, "instance", addresses) });
      expect(lanPeer(packet, tag, link)).toEqual({ peerId: peerIds[0], addresses });
      expect(lanPeer(packet, lanServiceTag(createSwarmKey()), link)).toBeUndefined();
    }),
  );
});

test("a packet cannot make anybody dial away from the link, or mix peers", () => {
  fc.assert(
    fc.property(addressesOn("10.77.0"), addressesOn("10.78.0"), (near, far) => {
      const foreign = near.map((address) => address.replace(peerIds[0]!, peerIds[1]!));
      const packet = received({
        answers: lanAnswers(tag, "instance", [...far, ...near, ...foreign].slice(0, 16)),
      });
      const peer = lanPeer(packet, tag, link);
      for (const address of peer?.addresses ?? []) expect(near).toContain(address);
      expect(lanPeer(received({ answers: lanAnswers(tag, "instance", far) }), tag, link)).toBeUndefined();
    }),
  );
});

test("hostile records are no peer and no exception", () => {
  const text = fc.oneof(
    fc.string({ maxLength: 200 }),
    fc.string({ maxLength: 200 }).map((tail) => `dnsaddr=${tail}`),
  );
  const part = fc.constantFrom(
    "/ip4/",
    "10.77.0.1",
    "999.1.1.1",
    "/tcp/",
    "7071",
    "/p2p/",
    peerIds[0]!,
    "/p2p-circuit",
    "/dns4/x",
  );
  const almost = fc.array(part, { maxLength: 8 }).map((parts) => `dnsaddr=${parts.join("")}`);
  fc.assert(
    fc.property(fc.array(fc.oneof(text, almost), { maxLength: 40 }), (texts) => {
      const name = `instance.${tag}`;
      const answers: Packet["answers"] = [
        { type: "PTR", name: tag, data: name },
        ...texts.map((data) => ({ type: "TXT" as const, name, data: data.slice(0, 255) })),
      ];
      const peer = lanPeer(received({ answers }), tag, link);
      if (peer)
        expect(
          peer.addresses.every((address) => /^\/ip4\/10\.77\.0\.1\/tcp\/7071\/p2p\//.test(address)),
        ).toBe(true);
    }),
  );
});
